package harness

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc; Linux reports them to programs
// in hundredths of a second on every architecture Go runs on.
const clockTick = time.Second / 100

// Usage is what a process has used of the machine.
type Usage struct {
	CPU      time.Duration // user and system time since it started
	Resident int64         // bytes in memory now
	Peak     int64         // the most it ever had in memory
}

// Usage reads the figures of a running process from /proc.
func (p *Process) Usage() (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return Usage{}, err
	}
	// The second field is the program's name in parentheses and may hold
	// blanks; utime and stime are fields 14 and 15 (proc_pid_stat(5)).
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return Usage{}, fmt.Errorf("read /proc/%d/stat: %q", p.PID(), stat)
	}
	var u Usage
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("read /proc/%d/stat: %w", p.PID(), err)
		}
		u.CPU += time.Duration(ticks) * clockTick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return Usage{}, err
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		var into *int64
		switch key {
		case "VmRSS":
			into = &u.Resident
		case "VmHWM":
			into = &u.Peak
		default:
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("read /proc/%d/status: %w", p.PID(), err)
		}
		*into = kilobytes << 10
	}
	return u, nil
}
