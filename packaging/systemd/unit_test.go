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

func readUnit(t *testing.T) string {
	t.Helper()
	unit, err := os.ReadFile("gatehouse.service")
	if err != nil {
		t.Fatal(err)
	}
	return string(unit)
}

func writeUnit(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gatehouse.service")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExposure(t *testing.T) {
	t.Parallel()
	rating, ok := rate(t, "gatehouse.service")
	t.Log(rating)
	if !ok {
		t.Errorf("%s, want at most 1.5", rating)
	}
}

// The measure must notice a unit that gives something away.
func TestExposureOfAWeakerUnit(t *testing.T) {
	t.Parallel()
	weaker := strings.NewReplacer("DynamicUser=yes", "User=root", "SystemCallFilter", "#SystemCallFilter").Replace(readUnit(t))
	if rating, ok := rate(t, writeUnit(t, weaker)); ok {
		t.Errorf("a unit that runs as root passes: %s", rating)
	}
}

// A misspelled setting is only a warning to systemd, and no protection.
func TestEverySettingIsKnown(t *testing.T) {
	t.Parallel()
	verify := func(unit string) string {
		cmd := exec.Command("systemd-analyze", "verify", "--man=no", writeUnit(t, unit))
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, _ := cmd.CombinedOutput() // what it prints says more than its code
		var own []string
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "gatehouse.service") {
				own = append(own, line)
			}
		}
		return strings.Join(own, "")
	}
	// The program need not be installed where this runs.
	unit := strings.ReplaceAll(readUnit(t), "/usr/bin/gatehouse", "/bin/true")
	if out := verify(unit); out != "" {
		t.Error(out)
	}
	if out := verify(strings.Replace(unit, "PrivateUsers=", "PrivateUser=", 1)); !strings.Contains(out, "PrivateUser") {
		t.Errorf("a misspelled setting passes: %q", out)
	}
}

// What the rating does not weigh, or weighs little.
func TestPromises(t *testing.T) {
	t.Parallel()
	lines := strings.Split(readUnit(t), "\n")
	for _, want := range []string{
		"ExecStart=/usr/bin/gatehouse serve --config /etc/gatehouse/gatehouse.yaml --data-dir ${STATE_DIRECTORY}",
		"LimitCORE=0",
		"DynamicUser=yes",
		"StateDirectory=gatehouse",
		"StateDirectoryMode=0700",
		"UMask=0077",
		"CapabilityBoundingSet=",
		"AmbientCapabilities=",
		"NoNewPrivileges=yes",
		"MemoryDenyWriteExecute=yes",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("the unit no longer says %s", want)
		}
	}
}
