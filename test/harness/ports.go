package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
)

// portAttempts is how often a program is started anew when another took its
// port between the choice and the start.
const portAttempts = 5

// Ports are chosen below 32768, where Linux begins to take those of outgoing
// connections: one of these could come by while a program is restarted on its
// port.
const firstPort, lastPort = 20000, 32000

var reserved struct {
	mu    sync.Mutex
	locks []net.PacketConn // guarded by mu; held until the process ends
}

// FreeAddress returns a loopback address whose port is free, and which no other
// test process is given before this one has ended. A program of somebody else
// may still take it, so whoever can retries: see onFreePort.
func FreeAddress() (string, error) {
	var err error
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		var address string
		if address, err = reserve(port); err == nil {
			return address, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}

// reserve binds a socket named for the port. Such a name is known to all
// processes that share the ports, and goes with the process that holds it.
func reserve(port int) (string, error) {
	lock, err := net.ListenPacket("unixgram", fmt.Sprintf("@gatehouse-test-port-%d", port))
	if err != nil {
		return "", err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		lock.Close()
		return "", err
	}
	listener.Close()
	reserved.mu.Lock()
	defer reserved.mu.Unlock()
	reserved.locks = append(reserved.locks, lock)
	return address, nil
}

// onFreePort calls start with a fresh address until it succeeds or fails for
// another reason than the port.
func onFreePort(start func(address string) error) error {
	var err error
	for range portAttempts {
		var address string
		if address, err = FreeAddress(); err != nil {
			return err
		}
		if err = start(address); err == nil || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
	}
	return fmt.Errorf("no free port after %d attempts: %w", portAttempts, err)
}
