package harness

import (
	"fmt"
	"net"
	"strings"
)

// portAttempts is how often a program is started anew when another took its
// port between the choice and the start.
const portAttempts = 5

// FreeAddress returns a loopback address whose port the kernel just chose.
// Another program may take it first, so whoever uses it retries: see onFreePort.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
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
