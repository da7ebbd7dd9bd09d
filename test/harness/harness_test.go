package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func startShell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start("shell", "/bin/sh", nil, "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestWaitLine(t *testing.T) {
	t.Parallel()
	p := startShell(t, "echo noise; echo 'ready https://x'; exec sleep 600")
	line, err := p.WaitLine(t.Context(), "ready ")
	if err != nil || line != "ready https://x" {
		t.Errorf("got %q, %v", line, err)
	}
	if _, err := p.Usage(); err != nil {
		t.Error(err)
	}
}

func TestWaitLineOfOneThatEnds(t *testing.T) {
	t.Parallel()
	p := startShell(t, "echo 'cannot open the data directory' >&2; exit 3")
	_, err := p.WaitLine(t.Context(), "ready ")
	if err == nil || !strings.Contains(err.Error(), "code 3") || !strings.Contains(err.Error(), "cannot open") {
		t.Errorf("error %v, want the code and what was printed", err)
	}
	if code, err := p.Wait(t.Context()); code != 3 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
}

func TestWaitLineHasADeadline(t *testing.T) {
	t.Parallel()
	p := startShell(t, "exec sleep 600")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.WaitLine(ctx, "ready "); err == nil {
		t.Error("no error after the deadline")
	}
}

func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	p := startShell(t, fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done; echo end", keepLines+500))
	if _, err := p.WaitLine(t.Context(), "end"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(p.Log(), "\n") + 1; got != keepLines {
		t.Errorf("kept %d lines, want %d", got, keepLines)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	drains := startShell(t, "trap 'echo drained; exit 0' TERM; echo up; while :; do sleep 0.02; done")
	if _, err := drains.WaitLine(t.Context(), "up"); err != nil {
		t.Fatal(err)
	}
	if code, err := drains.Stop(30 * time.Second); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	if !strings.Contains(drains.Log(), "drained") {
		t.Errorf("log %q", drains.Log())
	}
	hangs := startShell(t, "trap '' TERM; echo up; while :; do sleep 0.02; done")
	if _, err := hangs.WaitLine(t.Context(), "up"); err != nil {
		t.Fatal(err)
	}
	if _, err := hangs.Stop(100 * time.Millisecond); err == nil {
		t.Error("one that does not end on SIGTERM passed as stopped")
	}
}

func TestTakenPortIsRetried(t *testing.T) {
	t.Parallel()
	calls := 0
	err := onFreePort(func(address string) error {
		held, err := net.Listen("tcp", address)
		if err != nil { // somebody else was faster: that retry is none of ours
			return err
		}
		defer held.Close()
		if calls++; calls < 3 {
			_, err = net.Listen("tcp", address)
		}
		return err
	})
	if err != nil || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// The stock cluster on its own: what the stories build on.
func TestStockCluster(t *testing.T) {
	t.Parallel()
	cluster, err := StartCluster(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	kubectl, err := cluster.Kubectl()
	if err != nil {
		t.Fatal(err)
	}
	got, err := kubectl.Run(t.Context(), "", "version", "-o", "json")
	if err != nil || got.Code != 0 || strings.Count(got.Stdout, `"gitVersion": "v1.36.3"`) != 2 {
		t.Errorf("%v\n%v", err, got)
	}
}

// A port is given out once, and not to connections that go out.
func TestPortsAreReserved(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 50 {
		address, err := FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		if seen[address] {
			t.Errorf("%s was given out twice", address)
		}
		seen[address] = true
		var port int
		if _, err := fmt.Sscanf(address, "127.0.0.1:%d", &port); err != nil || port < firstPort || port >= lastPort {
			t.Errorf("address %q: %v", address, err)
		}
		if _, err := reserve(port); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("port %d is reserved twice: %v", port, err)
		}
	}
}
