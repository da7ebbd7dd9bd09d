package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxExposure is the worst rating by systemd-analyze that is accepted, in
// tenths, as its --threshold takes it.
const maxExposure = "15"

var overall = regexp.MustCompile(`Overall exposure level for \S+: \S+`)

// rate runs systemd's own analysis of a unit file; ok is false above the
// threshold.
func rate(t *testing.T, unit string) (rating string, ok bool) {
	t.Helper()
	cmd := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+maxExposure, unit)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_COLORS=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	rating = overall.FindString(string(out))
	if rating == "" {
		t.Fatalf("systemd-analyze (Debian package systemd): %v\n%s%s", err, out, stderr.Bytes())
	}
	return rating, err == nil
}

// units are every unit, and the program that it runs.
var units = map[string]string{
	"gatehouse.service":                "/usr/bin/gatehouse",
	"gatehouse-edge-authorize.service": "/usr/bin/gatehouse-edge",
}

// Every unit file is in the list.
func TestUnits(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.service")
	if err != nil || len(files) != len(units) {
		t.Errorf("%v %v, %d are checked", files, err, len(units))
	}
}

func readUnit(t *testing.T, name string) string {
	t.Helper()
	unit, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(unit)
}

func writeUnit(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExposure(t *testing.T) {
	t.Parallel()
	for unit := range units {
		rating, ok := rate(t, unit)
		t.Log(unit, rating)
		if !ok {
			t.Errorf("%s: %s, want at most 1.5", unit, rating)
		}
	}
}

// The measure must notice a unit that gives something away.
func TestExposureOfAWeakerUnit(t *testing.T) {
	t.Parallel()
	for unit := range units {
		weaker := strings.NewReplacer("DynamicUser=yes", "User=root", "SystemCallFilter", "#SystemCallFilter").Replace(readUnit(t, unit))
		if rating, ok := rate(t, writeUnit(t, unit, weaker)); ok {
			t.Errorf("%s passes when it runs as root: %s", unit, rating)
		}
	}
}

// A misspelled setting is only a warning to systemd, and no protection.
func TestEverySettingIsKnown(t *testing.T) {
	t.Parallel()
	verify := func(name, unit string) string {
		cmd := exec.Command("systemd-analyze", "verify", "--man=no", writeUnit(t, name, unit))
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, _ := cmd.CombinedOutput() // what it prints says more than its code
		var own []string
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, name) {
				own = append(own, line)
			}
		}
		return strings.Join(own, "")
	}
	// The program need not be installed where this runs.
	for name, program := range units {
		unit := strings.ReplaceAll(readUnit(t, name), program+" ", "/bin/true ")
		if out := verify(name, unit); out != "" {
			t.Error(out)
		}
		if out := verify(name, strings.Replace(unit, "PrivateUsers=", "PrivateUser=", 1)); !strings.Contains(out, "PrivateUser") {
			t.Errorf("%s: a misspelled setting passes: %q", name, out)
		}
	}
}

// What the rating does not weigh, or weighs little.
func TestPromises(t *testing.T) {
	t.Parallel()
	own := map[string][]string{
		"gatehouse.service": {
			"ExecStart=/usr/bin/gatehouse serve --config /etc/gatehouse/gatehouse.yaml --data-dir ${STATE_DIRECTORY}",
			"StateDirectory=gatehouse",
		},
		"gatehouse-edge-authorize.service": {
			"ExecStart=/usr/bin/gatehouse-edge authorize $GATEHOUSE_EDGE_FLAGS --dir ${CREDENTIALS_DIRECTORY} --state-dir ${STATE_DIRECTORY} --socket ${RUNTIME_DIRECTORY}/authzen.sock",
			"StateDirectory=gatehouse-edge",
			"LoadCredential=site.key:/etc/kubernetes/gatehouse/site.key",
		},
	}
	for unit := range units {
		lines := strings.Split(readUnit(t, unit), "\n")
		for _, want := range append(own[unit],
			"LimitCORE=0",
			"DynamicUser=yes",
			"StateDirectoryMode=0700",
			"UMask=0077",
			"CapabilityBoundingSet=",
			"AmbientCapabilities=",
			"NoNewPrivileges=yes",
			"MemoryDenyWriteExecute=yes",
		) {
			if !slices.Contains(lines, want) {
				t.Errorf("%s no longer says %s", unit, want)
			}
		}
	}
}
