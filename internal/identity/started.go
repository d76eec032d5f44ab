package identity

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ticksPerSecond is USER_HZ, the unit of start times in /proc. It is 100 on every architecture that Go supports.
const ticksPerSecond = 100

// Started is when the process started, by the clock of now: a clock that was set since does not move it.
func (p Process) Started() (time.Time, error) {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return time.Time{}, fmt.Errorf("read time since boot: %w", err)
	}
	age := time.Duration(boot.Nano()) - time.Duration(p.Start)*(time.Second/ticksPerSecond)
	return time.Now().Add(-age), nil
}
