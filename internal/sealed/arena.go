package sealed

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrVersion: the arena was written by a program with another format.
var ErrVersion = errors.New("sealed memory has another format version")

// ErrFull: no room for another object.
var ErrFull = errors.New("sealed memory is full")

// version is the format's number.
const version = 1

// Kind is what an object is.
type Kind uint32

// The kinds of objects.
const (
	KindKey      Kind = 1 + iota // the vault key
	KindSnapshot                 // content of a credential file that is open for reading
	KindChange                   // content of a credential file that is open for writing
	KindDraft                    // a file beside the credential file
	KindLock                     // a tree's refresh lock
	KindNotes                    // what the broker remembers of a tree
)

// Layout, in bytes. An entry describes an object; its meta and body lie together in whole pages.
const (
	magic     = 0x6465_6c61_6573_6663
	pageSize  = 4096
	entrySize = 48
	entries   = 8192
	entriesAt = pageSize
	pagesAt   = entriesAt + entries*entrySize

	wordMagic   = 0
	wordVersion = 8
	wordNextID  = 16
	wordStamp   = 24 // boot time of the last Stamp, in nanoseconds
	wordSeq     = 32

	entryState = 0 // stateFree and so on
	entryKind  = 4
	entryID    = 8
	entrySeq   = 16
	entryPage  = 24
	entryPages = 28
	entryMeta  = 32
	entryBody  = 36

	stateFree = 0
	stateUsed = 1 // it counts
	stateWipe = 2 // it is being filled, or wiped: a writer that is killed leaves it to be wiped
)

// DefaultSize and SmallSize are those of root's arena and of one under the usual limit for locked memory, in bytes.
// Only what is used takes memory.
const (
	DefaultSize = 128 << 20
	SmallSize   = 4 << 20
)

// Arena is a mapped arena. It is safe for concurrent use by one process at a time.
type Arena struct {
	fd  int // -1: private
	mem []byte

	mu    sync.RWMutex
	index map[key]int // offset of the entry
	used  []uint64    // a bit for each page
	spare []int       // entries that are free
}

type key struct {
	kind Kind
	id   uint64
}

// New makes an empty arena: sealed, or private when the kernel has no sealed memory.
func New() (*Arena, error) {
	for _, size := range []int{DefaultSize, SmallSize} {
		fd, err := secretMemory(size)
		if err != nil {
			break
		}
		if a, err := attach(fd, size); err == nil {
			return a, a.format()
		}
		_ = unix.Close(fd)
	}
	mem, err := unix.Mmap(-1, 0, SmallSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("make private memory: %w", err)
	}
	_ = unix.Madvise(mem, unix.MADV_DONTDUMP)
	a := &Arena{fd: -1, mem: mem}
	return a, a.format()
}

// Supported reports why there is no sealed memory here, nil when there is.
func Supported() error {
	fd, err := secretMemory(pageSize)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func secretMemory(size int) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_MEMFD_SECRET, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, fmt.Errorf("memfd_secret: %w", errno)
	}
	if err := unix.Ftruncate(int(r), int64(size)); err != nil {
		_ = unix.Close(int(r))
		return -1, fmt.Errorf("memfd_secret: %w", err)
	}
	return int(r), nil
}

// Open takes over the arena behind fd, which it owns from then on, errors excepted.
func Open(fd int) (*Arena, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("open sealed memory: %w", err)
	}
	if st.Size != DefaultSize && st.Size != SmallSize {
		return nil, fmt.Errorf("open sealed memory: %w: %d bytes", ErrVersion, st.Size)
	}
	a, err := attach(fd, int(st.Size))
	if err != nil {
		return nil, err
	}
	if err := a.check(); err != nil {
		_ = unix.Munmap(a.mem)
		return nil, err
	}
	a.load()
	return a, nil
}

func attach(fd, size int) (*Arena, error) {
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map sealed memory: %w", err)
	}
	return &Arena{fd: fd, mem: mem}, nil
}

func (a *Arena) format() error {
	*a.word(wordVersion), *a.word(wordNextID) = version, 1
	*a.word(wordMagic) = magic
	a.load()
	a.Stamp()
	return nil
}

// FD is the descriptor to be kept, -1 when the arena is private.
func (a *Arena) FD() int { return a.fd }

// Close unmaps. Sealed memory lives on while somebody holds the descriptor.
func (a *Arena) Close() error {
	err := unix.Munmap(a.mem)
	if a.fd >= 0 {
		err = errors.Join(err, unix.Close(a.fd))
	}
	return err
}

// Stamp notes that a server uses the arena now.
func (a *Arena) Stamp() { atomic.StoreUint64(a.word(wordStamp), uint64(bootTime())) }

// Age is how long ago the last Stamp was; time that the machine slept counts.
func (a *Arena) Age() time.Duration {
	return bootTime() - time.Duration(atomic.LoadUint64(a.word(wordStamp)))
}

func bootTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

func (a *Arena) word(off int) *uint64   { return (*uint64)(unsafe.Pointer(&a.mem[off])) }
func (a *Arena) word32(off int) *uint32 { return (*uint32)(unsafe.Pointer(&a.mem[off])) }

// pages is how many pages hold objects.
func (a *Arena) pages() int { return (len(a.mem) - pagesAt) / pageSize }

// load builds the index. Of two entries of one object, which a writer left that was killed, the newer one counts.
func (a *Arena) load() {
	a.index, a.used, a.spare = map[key]int{}, make([]uint64, (a.pages()+63)/64), nil
	for i := entries - 1; i >= 0; i-- {
		e := entriesAt + i*entrySize
		state := *a.word32(e + entryState)
		if state == stateWipe && a.sound(e) {
			a.wipe(e)
		}
		if state != stateUsed || !a.sound(e) {
			a.spare = append(a.spare, e)
			continue
		}
		k := key{Kind(*a.word32(e + entryKind)), *a.word(e + entryID)}
		if old, ok := a.index[k]; ok {
			if *a.word(old + entrySeq) > *a.word(e + entrySeq) {
				old, e = e, old
			}
			a.release(old)
		}
		a.index[k] = e
		a.mark(int(*a.word32(e + entryPage)), int(*a.word32(e + entryPages)), true)
	}
}

// sound reports whether an entry's extent lies within the arena.
func (a *Arena) sound(e int) bool {
	page, n := uint64(*a.word32(e + entryPage)), uint64(*a.word32(e + entryPages))
	return n > 0 && page+n <= uint64(a.pages()) &&
		uint64(*a.word32(e + entryMeta))+uint64(*a.word32(e + entryBody)) <= n*pageSize
}

func (a *Arena) mark(page, n int, used bool) {
	for p := page; p < page+n; p++ {
		if used {
			a.used[p/64] |= 1 << (p % 64)
		} else {
			a.used[p/64] &^= 1 << (p % 64)
		}
	}
}

// find returns the first of n free pages in a row; low ones first, so that little memory is ever touched.
func (a *Arena) find(n int) (int, bool) {
	run := 0
	for p := 0; p < a.pages(); p++ {
		if a.used[p/64] == ^uint64(0) {
			run, p = 0, p|63
			continue
		}
		if a.used[p/64]&(1<<(p%64)) != 0 {
			run = 0
			p += bits.TrailingZeros64(^(a.used[p/64] >> (p % 64))) - 1
			continue
		}
		if run++; run == n {
			return p - n + 1, true
		}
	}
	return 0, false
}
