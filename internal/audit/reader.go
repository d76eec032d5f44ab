package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// followPause is how often a followed log is looked at.
const followPause = 100 * time.Millisecond

// Read calls each with every record of the log, in order, with the line as it stands in the file. With follow it then
// waits for more until ctx ends.
func Read(ctx context.Context, path string, follow bool, each func(Event, []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var part []byte
	for {
		b, err := r.ReadBytes('\n')
		part = append(part, b...)
		switch {
		case err == nil:
			if err := deliver(part, each); err != nil {
				return err
			}
			part = nil
			continue
		case !errors.Is(err, io.EOF):
			return fmt.Errorf("read audit log: %w", err)
		case !follow:
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followPause):
		}
	}
}

func deliver(line []byte, each func(Event, []byte) error) error {
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return nil // a half-written line; Verify names it
	}
	return each(e, line)
}
