package ledger

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrVersion: the ledger was written by a program with another format.
var ErrVersion = errors.New("connection state has another format version")

// ErrDamaged: the ledger contradicts itself.
var ErrDamaged = errors.New("connection state is damaged")

// ErrFull: no room for another node or handle.
var ErrFull = errors.New("connection state is full")

// version is the format's number; a variable so that a build with another one can be tested (docs/recovery.md).
var version = "2"

// Offsets and sizes, in bytes.
const (
	magic = 0x6f6c_6433_7366_6c63 // any constant

	journalAt   = 16 << 10
	journalSize = journalSlots * slotSize
	handlesAt   = journalAt + journalSize
	handlesSize = maxHandles * handleSize
	recordsAt   = (handlesAt + handlesSize + 4095) &^ 4095
	halfSize    = 128 << 20 // sparse: only what is written takes memory
	total       = recordsAt + 2*halfSize
)

// Words of the header.
const (
	wordMagic = iota * 8
	wordVersion
	wordGeneration
	wordNextID
	wordHighest
	wordDevice
	wordHalf
	wordEnd0
	wordEnd1
	wordHandles // places of handles that were ever used
	wordNewest  // unique of the newest request in the journal

	initAt  = 1024
	replyAt = 4096
	mountAt = 8192

	underwayAt = 12288
	blobMax    = 3072 - 4 // after its length
)

// rootID is the kernel's id of the root, which is not in the ledger.
const rootID = 1

// Ledger is an open ledger. It is safe for concurrent use by one process.
type Ledger struct {
	fd  int
	mem []byte

	mu       sync.Mutex
	nodes    map[uint64]*Node
	keys     map[Key]uint64
	children map[child]uint64
	live     int // bytes of records that still count

	journalMu sync.Mutex

	handleMu sync.Mutex
	free     []uint32
	opens    map[uint64]int // open handles of a node
}

// New makes an empty ledger.
func New() (*Ledger, error) {
	fd, err := unix.MemfdCreate("claudefs-ledger", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make connection state: %w", err)
	}
	if err := unix.Ftruncate(fd, total); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make connection state: %w", err)
	}
	// Whoever else has the descriptor cannot shrink it under us, which would be a SIGBUS.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make connection state: %w", err)
	}
	l, err := attach(fd)
	if err != nil {
		return nil, err
	}
	*l.word(wordVersion) = versionNumber()
	*l.word(wordNextID) = rootID + 1
	*l.word(wordMagic) = magic
	return l, l.load()
}

// Open takes over the ledger behind fd, which it owns from then on, errors excepted.
func Open(fd int) (*Ledger, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("open connection state: %w", err)
	}
	if st.Size < total {
		return nil, fmt.Errorf("open connection state: %w: %d bytes, this program uses %d", ErrVersion, st.Size, total)
	}
	l, err := attach(fd)
	if err != nil {
		return nil, err
	}
	if err = l.checkHeader(st.Size); err == nil {
		err = l.load()
	}
	if err != nil {
		_ = unix.Munmap(l.mem)
		return nil, err
	}
	return l, nil
}

// checkHeader says whether this program knows the format.
func (l *Ledger) checkHeader(size int64) error {
	if got := *l.word(wordMagic); got != magic {
		return fmt.Errorf("open connection state: %w: no ledger", ErrDamaged)
	}
	if got := *l.word(wordVersion); got != versionNumber() || size != total {
		return fmt.Errorf("open connection state: %w: it has %d, this program knows %d", ErrVersion, got, versionNumber())
	}
	return nil
}

func attach(fd int) (*Ledger, error) {
	mem, err := unix.Mmap(fd, 0, total, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map connection state: %w", err)
	}
	return &Ledger{fd: fd, mem: mem}, nil
}

func versionNumber() uint64 {
	var n uint64
	_, _ = fmt.Sscan(version, &n)
	return n
}

// Close unmaps. The memory lives on while somebody holds the descriptor.
func (l *Ledger) Close() error {
	return errors.Join(unix.Munmap(l.mem), unix.Close(l.fd))
}

// FD is the descriptor to be kept.
func (l *Ledger) FD() int { return l.fd }

func (l *Ledger) word(off int) *uint64 { return (*uint64)(unsafe.Pointer(&l.mem[off])) }
func (l *Ledger) half32(off int) *uint32 {
	return (*uint32)(unsafe.Pointer(&l.mem[off]))
}

// Generation counts the servers that served the connection; Begin makes it one more.
func (l *Ledger) Generation() uint64 { return atomic.LoadUint64(l.word(wordGeneration)) }

// Begin notes that another server serves from now on.
func (l *Ledger) Begin() { atomic.AddUint64(l.word(wordGeneration), 1) }

// Init returns the kernel's INIT request and the reply to it; empty before the first exchange.
func (l *Ledger) Init() (request, reply []byte) { return l.blob(initAt), l.blob(replyAt) }

// SetInit keeps the exchange. The request goes last: it is what says that there is one.
func (l *Ledger) SetInit(request, reply []byte) error {
	if len(request) > blobMax || len(reply) > blobMax {
		return fmt.Errorf("keep INIT exchange: %d and %d bytes, at most %d", len(request), len(reply), blobMax)
	}
	l.setBlob(replyAt, reply)
	l.setBlob(initAt, request)
	return nil
}

// Mount returns what SetMount kept: where the file system is mounted and its device number.
func (l *Ledger) Mount() (mountpoint string, dev uint64) {
	return string(l.blob(mountAt)), *l.word(wordDevice)
}

// SetMount keeps where the file system is mounted. A mountpoint of more than blobMax bytes is not kept.
func (l *Ledger) SetMount(mountpoint string, dev uint64) {
	*l.word(wordDevice) = dev
	if len(mountpoint) <= blobMax {
		l.setBlob(mountAt, []byte(mountpoint))
	}
}

func (l *Ledger) blob(at int) []byte {
	n := min(atomic.LoadUint32(l.half32(at)), blobMax)
	return append([]byte(nil), l.mem[at+4:at+4+int(n)]...)
}

func (l *Ledger) setBlob(at int, b []byte) {
	copy(l.mem[at+4:], b)
	atomic.StoreUint32(l.half32(at), uint32(len(b)))
}
