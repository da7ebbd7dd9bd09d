package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

const modulePath = "github.com/gatehouse-dev/gatehouse"

// Root is the folder of the product's go.mod, found from the working directory
// upwards; tests and benches run below it.
var Root = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module "+modulePath+"\n") {
			return dir, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside the repository")
		}
		dir = parent
	}
})

// BuildGatehouse builds the control plane as make build does, once for each
// test process, and returns the path of the program. The go command leaves a
// program that is up to date alone.
var BuildGatehouse = sync.OnceValues(func() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	if _, err := run(root, "make", "--no-print-directory", "build"); err != nil {
		return "", err
	}
	return filepath.Join(root, "bin", "gatehouse"), nil
})

// Upstream returns the folder that holds the stock kube-apiserver, kubectl and
// etcd, and builds those that are not there yet, which takes minutes.
var Upstream = sync.OnceValues(func() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	out, err := run(root, filepath.Join(root, "scripts", "build-upstream"))
	return strings.TrimSpace(out), err
})

// Litewitness returns the folder that holds a witness of other people's making
// and what is needed beside it, and builds them if they are not there yet.
var Litewitness = sync.OnceValues(func() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	out, err := run(root, filepath.Join(root, "scripts", "build-witness"))
	return strings.TrimSpace(out), err
})

func run(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), nil
}
