// SPDX-License-Identifier: MIT

// Goroutines on one processor, measured as in bench.hpp: switches between two, and, with the
// argument go_runnable_wait, how long one waits.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
)

// The time stamp counter.
func now() uint64

const (
	windows = 601
	warmUp  = 20
	ops     = 200
)

func median(v []uint64) float64 {
	sort.Slice(v, func(i, j int) bool { return v[i] < v[j] })
	return float64(v[len(v)/2])
}

// window counts what ops times op takes. First the other goroutine runs until it waits:
// who finds the other waiting settles into one of two patterns that differ by 1 %, and
// would keep it.
func window(op func()) uint64 {
	runtime.Gosched()
	start := now()
	for i := 0; i < ops; i++ {
		op()
	}
	return now() - start
}

func unit() string {
	if os.Getenv("BENCH_NATIVE") != "" {
		return "tick/op"
	}
	return "insn/op"
}

// measure prints the cost of op, which stands for two switches.
func measure(name string, op func()) {
	for i := 0; i < warmUp; i++ {
		window(op)
	}
	none, v := make([]uint64, windows), make([]uint64, windows)
	for i := range none {
		none[i] = window(func() {})
	}
	for i := range v {
		v[i] = window(op)
	}
	fmt.Printf("{\"name\":%q,\"unit\":%q,\"value\":%.2f,\"windows\":%d,\"ops\":%d}\n",
		name, unit(), (median(v)-median(none))/(2*ops), windows, 2*ops)
}

func switches() {
	stop := false
	go func() {
		for !stop {
			runtime.Gosched()
		}
	}()
	measure("go_gosched", runtime.Gosched)
	stop = true
	runtime.Gosched()

	there, back := make(chan int), make(chan int)
	go func() {
		for n := range there {
			back <- n
		}
	}()
	measure("go_channel", func() {
		there <- 1
		<-back
	})
}

func main() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	if len(os.Args) == 2 && os.Args[1] == "go_runnable_wait" {
		runnableWait()
		return
	}
	switches()
}
