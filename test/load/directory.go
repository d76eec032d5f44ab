package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// manyFiles is how many files the directory has that is walked.
const manyFiles = 300

// stableFiles is how many files stay in the main directory while other workers
// create and remove theirs next to them.
const stableFiles = 20

// smallBuffer has room for about ten short directory entries, and for one with
// the longest name.
const smallBuffer = 320

// directoryWorkers returns the workers that look at directories.
func directoryWorkers() []worker {
	c := &currentDir{}
	return []worker{
		{name: "walk", setup: makeMany, turn: walk},
		{name: "slow-walk", setup: makeStable, turn: slowWalk},
		{name: "cwd", setup: c.setup, turn: c.turn},
		{name: "statfs", setup: makeEmpty, turn: statfs},
	}
}

// manyName is the name of one of the many files.
func manyName(i int) string {
	return fmt.Sprintf("many-%03d", i)
}

// stableName is the name of one of the stable files.
func stableName(i int) string {
	return fmt.Sprintf("stable-%02d", i)
}

// manyDir is the directory with the many files.
func manyDir(r *round) string {
	return r.path("projects", "many")
}

// makeMany makes the many files.
func makeMany(r *round) {
	r.mkdirAll(manyDir(r))
	for i := range manyFiles {
		r.put(filepath.Join(manyDir(r), manyName(i)), []byte("many\n"))
	}
}

// makeStable makes the many files and the stable ones.
func makeStable(r *round) {
	makeMany(r)
	for i := range stableFiles {
		r.put(r.path(stableName(i)), []byte("stable\n"))
	}
}

// walk walks over the many files as fast as it can.
func walk(r *round) {
	var names []string
	r.try("walk", func() error {
		names = nil
		return filepath.WalkDir(manyDir(r), func(_ string, d fs.DirEntry, err error) error {
			if err == nil {
				names = append(names, d.Name())
			}
			return err
		})
	})
	r.check(len(names) == manyFiles+1, "walk", "%d entries instead of %d", len(names), manyFiles+1)
	r.once(names, manyFiles, manyName)
}

// slowWalk reads directories a few entries at a time, with time for a kill in
// between, first one at rest and then one in use.
func slowWalk(r *round) {
	names := r.list(manyDir(r), 2*time.Millisecond)
	r.check(len(names) == manyFiles, "walk many", "%d entries instead of %d", len(names), manyFiles)
	r.once(names, manyFiles, manyName)
	r.once(r.list(r.path(), 2*time.Millisecond), stableFiles, stableName)
}

// list returns the names in the directory path, which it reads slowly.
func (r *round) list(path string, nap time.Duration) []string {
	fd := r.open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	buf := make([]byte, smallBuffer)
	var names []string
	for r.ok() {
		n := 0
		r.try(named("getdents", path), func() (err error) {
			n, err = unix.Getdents(fd, buf)
			return err
		})
		if !r.ok() || n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
		r.nap(nap)
	}
	r.close(fd)
	return names
}

// once expects each of the count names to be among those seen exactly once.
func (r *round) once(seen []string, count int, name func(int) string) {
	if !r.ok() {
		return
	}
	times := map[string]int{}
	for _, s := range seen {
		times[s]++
	}
	for i := range count {
		r.check(times[name(i)] == 1, "list", "%s seen %d times", name(i), times[name(i)])
	}
}

// currentDir is the state of the cwd worker.
type currentDir struct {
	path string
}

// setup makes a directory and changes to it, for the whole process.
func (c *currentDir) setup(r *round) {
	dir := r.path("projects", "a", "b", "c")
	r.mkdirAll(dir)
	r.try("chdir", func() error { return unix.Chdir(dir) })
	c.path = r.getwd()
}

// turn uses relative names.
func (c *currentDir) turn(r *round) {
	data := fmt.Appendf(nil, "note %d\n", serial.Add(1))
	r.put("note.txt", data)
	r.expect("note.txt", data)
	r.expect("../c/note.txt", data)
	r.stat(".")
	path := r.getwd()
	r.check(path == c.path, "getcwd", "%q instead of %q", path, c.path)
}

// getwd returns what the kernel has as the current directory's path.
func (r *round) getwd() string {
	buf := make([]byte, unix.PathMax)
	n := 0
	r.try("getcwd", func() (err error) {
		n, err = unix.Getcwd(buf)
		return err
	})
	return unix.ByteSliceToString(buf[:max(n, 0)])
}

// makeEmpty makes an empty directory and a file.
func makeEmpty(r *round) {
	makeScratch(r)
	r.mkdirAll(r.scratch("empty"))
	r.put(r.scratch("accessible"), []byte("accessible\n"))
}

// statfs asks small questions.
func statfs(r *round) {
	var st unix.Statfs_t
	r.try("statfs", func() error { return unix.Statfs(r.path(), &st) })
	r.check(st.Bsize > 0, "statfs", "block size %d", st.Bsize)
	r.try("access", func() error { return unix.Access(r.scratch("accessible"), unix.R_OK|unix.W_OK) })
	r.refused("access missing", unix.ENOENT, func() error { return unix.Access(r.scratch("missing"), unix.F_OK) })
	names := r.list(r.scratch("empty"), 0)
	r.check(len(names) == 0, "list empty", "%d entries", len(names))
}
