// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

const (
	turnNs = 5000000
	turns  = 8
	rounds = 20
)

var sink uint64

// compute takes about turnNs, one nanosecond an instruction.
func compute() {
	for start := now(); now()-start < turnNs; {
		for i := 0; i < 1000; i++ {
			sink++
		}
	}
}

// runnableWait tells how long, at worst, a goroutine that could run waits when another one
// enters a read that blocks; see ums_runnable_wait.cc. In a program that computes, the
// runtime looks rarely for threads that are in a system call.
func runnableWait() {
	var fd [2]int
	if err := syscall.Pipe(fd[:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var since, worst uint64
	done := false
	go func() {
		var c [1]byte
		for i := 0; i < rounds; i++ {
			for k := 0; k < turns; k++ {
				compute()
				runtime.Gosched()
			}
			since = now()
			syscall.Read(fd[0], c[:])
		}
		done = true
	}()
	for !done {
		if since != 0 {
			if wait := now() - since; wait > worst {
				worst = wait
			}
			since = 0
			syscall.Write(fd[1], []byte("x"))
		} else {
			compute()
		}
		runtime.Gosched()
	}
	fmt.Printf("{\"name\":\"go_runnable_wait\",\"unit\":%q,\"value\":%.2f}\n", unit(), float64(worst))
}
