// Command bench measures claudefs against ext4, tmpfs and an empty go-fuse operation, in one run on one machine, and
// prints the tables of docs/performance.md. Only ratios mean something: machines differ and are shared.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "reader":
			exit(readerMain(os.Args[2:]))
		case "null":
			exit(nullMain(os.Args[2:]))
		case "pauses":
			exit(pausesMain(os.Args[2:]))
		}
	}
	claudefs := flag.String("claudefs", "bin/claudefs", "the `binary` to measure")
	count := flag.Int("count", 20000, "operations for each figure")
	rounds := flag.Int("rounds", 5, "interleaved rounds; the median is shown")
	reads := flag.Int("reads", 100_000, "reads between the two looks at the daemon's memory")
	kills := flag.Int("kills", 100, "kills of the server while a reader looks on")
	only := flag.String("only", "", "\"survive\" measures only what outliving the server costs")
	flag.Parse()
	exit(run(*claudefs, *count, *rounds, *reads, *kills, *only))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
