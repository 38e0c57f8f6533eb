# SPDX-License-Identifier: MIT
#
# ums_system_call_names(FILE): writes the initialisers { number, "name" }, in ascending order, from what <ums/ums.h> and
# the kernel headers define.
function(ums_system_call_names file include_dir)
	set(source "${CMAKE_CURRENT_BINARY_DIR}/system_call_names.c")
	file(WRITE "${source}" "#include <asm/unistd.h>\n#include <ums/ums.h>\n")
	execute_process(
		COMMAND "${CMAKE_C_COMPILER}" -E -dM "-I${include_dir}" "-I${CMAKE_CURRENT_BINARY_DIR}/include" "${source}"
		OUTPUT_VARIABLE macros
		COMMAND_ERROR_IS_FATAL ANY)
	string(REGEX MATCHALL "#define __NR_[a-z0-9_]+[ \t]+[0-9]+" macros "${macros}")
	set(names "")
	foreach(macro IN LISTS macros)
		string(REGEX MATCH "__NR_([a-z0-9_]+)[ \t]+([0-9]+)" _ "${macro}")
		list(APPEND names "{ ${CMAKE_MATCH_2}, \"${CMAKE_MATCH_1}\" },")
	endforeach()
	list(SORT names COMPARE NATURAL)
	list(JOIN names "\n" text)
	file(CONFIGURE OUTPUT "${file}" CONTENT "${text}\n" @ONLY)
endfunction()
