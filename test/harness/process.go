package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// waitWithin ends a wait whose caller set no end, so that a program that hangs
// fails its test with what it printed last and not all tests at their timeout.
const waitWithin = 5 * time.Minute

// keepLines bounds what is kept of a program's output.
const keepLines = 4000

// A Process is a running program and what it has printed so far. Its methods
// may be called from several goroutines.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended

	mu      sync.Mutex
	lines   []string      // guarded by mu; standard output and error, the last keepLines
	dropped int           // guarded by mu; lines forgotten before those
	printed chan struct{} // guarded by mu; closed and replaced with every line
}

// Start runs a program. env is added to the environment of this process.
func Start(name, path string, env []string, args ...string) (*Process, error) {
	p := &Process{
		name:    name,
		cmd:     exec.Command(path, args...),
		done:    make(chan struct{}),
		printed: make(chan struct{}),
	}
	p.cmd.Env = append(os.Environ(), env...)
	// The program must not outlive a test process that is killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = in, in

	started := make(chan error)
	go func() {
		// The death signal is tied to the thread that started the program, so
		// this thread does nothing else until the program has ended.
		runtime.LockOSThread()
		err := p.cmd.Start()
		in.Close()
		if err != nil {
			out.Close()
			started <- err
			return
		}
		started <- nil
		p.read(out)
		_ = p.cmd.Wait() // the state is read from cmd.ProcessState
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

func (p *Process) read(out io.ReadCloser) {
	defer out.Close()
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			p.mu.Lock()
			p.lines = append(p.lines, strings.TrimRight(line, "\r\n"))
			if extra := len(p.lines) - keepLines; extra > 0 {
				p.lines = append([]string(nil), p.lines[extra:]...)
				p.dropped += extra
			}
			close(p.printed)
			p.printed = make(chan struct{})
			p.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Log is what the program has printed, without lines forgotten long ago.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// tail is the end of the log, for error messages.
func (p *Process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := p.lines[max(0, len(p.lines)-40):]
	return fmt.Sprintf("\n--- last lines of %s ---\n%s\n---", p.name, strings.Join(lines, "\n"))
}

// bounded is ctx with a deadline.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, waitWithin)
}

// WaitLine returns the first line that begins with prefix. It fails when the
// program ends first or ctx does, or after five minutes.
func (p *Process) WaitLine(ctx context.Context, prefix string) (string, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	seen := 0 // lines looked at, counting those forgotten
	for {
		p.mu.Lock()
		for seen = max(seen, p.dropped); seen < p.dropped+len(p.lines); seen++ {
			if line := p.lines[seen-p.dropped]; strings.HasPrefix(line, prefix) {
				p.mu.Unlock()
				return line, nil
			}
		}
		printed := p.printed
		p.mu.Unlock()
		select {
		case <-printed:
		case <-p.done:
			select {
			case <-printed: // what it printed last still counts
				continue
			default:
			}
			return "", fmt.Errorf("%s ended with code %d before printing %q%s", p.name, p.cmd.ProcessState.ExitCode(), prefix, p.tail())
		case <-ctx.Done():
			return "", fmt.Errorf("%s did not print %q: %w%s", p.name, prefix, context.Cause(ctx), p.tail())
		}
	}
}

// Wait returns the exit code, -1 for a program that a signal ended. It fails
// when ctx ends first, or after five minutes.
func (p *Process) Wait(ctx context.Context) (int, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s did not end: %w%s", p.name, context.Cause(ctx), p.tail())
	}
}

// Kill ends the program at once, as a power cut would, and waits until it is
// gone. It may be called on one that has ended.
func (p *Process) Kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(fmt.Sprintf("kill %s: %v", p.name, err))
	}
	<-p.done
}

// Stop asks the program to end and returns its exit code. One that has not
// ended after the given time is killed, which is an error.
func (p *Process) Stop(within time.Duration) (int, error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(within):
		p.Kill()
		return 0, fmt.Errorf("%s was still running %v after SIGTERM%s", p.name, within, p.tail())
	}
}
