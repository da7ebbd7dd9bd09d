package credential

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/cache"
)

// InfoVariable is where client-go puts what it wants (client.authentication.k8s.io).
const InfoVariable = "KUBERNETES_EXEC_INFO"

// maxInfo bounds what is read of it, in bytes; it holds a CA bundle at most.
const maxInfo = 1 << 20

const (
	execVersion = "client.authentication.k8s.io/v1"
	execKind    = "ExecCredential"
)

// Info is what client-go says about the call.
type Info struct {
	// Interactive says that the plugin may ask the person in front of it.
	Interactive bool `json:"interactive"`
	// Cluster is there if the kubeconfig says provideClusterInfo.
	Cluster *Cluster `json:"cluster"`
}

// Cluster is where the credential will be shown.
type Cluster struct {
	Server        string `json:"server"`
	TLSServerName string `json:"tls-server-name"`
	Insecure      bool   `json:"insecure-skip-tls-verify"`
	CA            []byte `json:"certificate-authority-data"`
}

// ParseInfo reads the value of [InfoVariable].
func ParseInfo(text string) (Info, error) {
	if text == "" {
		return Info{}, fmt.Errorf("%s is not set: this command is run by kubectl, through the users.exec of a kubeconfig; sign in with gatehouse login", InfoVariable)
	}
	if len(text) > maxInfo {
		return Info{}, fmt.Errorf("%s is larger than %d bytes", InfoVariable, maxInfo)
	}
	var got struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       Info   `json:"spec"`
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		return Info{}, fmt.Errorf("%s is not JSON", InfoVariable)
	}
	if got.APIVersion != execVersion || got.Kind != execKind {
		return Info{}, fmt.Errorf("%s asks for %.100q %.100q; set users.exec.apiVersion to %s", InfoVariable, got.APIVersion, got.Kind, execVersion)
	}
	return got.Spec, nil
}

// Exec renders the answer to client-go, which holds the credential.
func Exec(e *cache.Entry, until time.Time) ([]byte, error) {
	status := map[string]string{"expirationTimestamp": until.UTC().Format(time.RFC3339)}
	switch {
	case e.Token != "":
		status["token"] = e.Token
	case e.Certificate != "" && e.Key != "":
		status["clientCertificateData"], status["clientKeyData"] = e.Certificate, e.Key
	default:
		return nil, errors.New("the entry holds no credential")
	}
	data, err := json.Marshal(map[string]any{"apiVersion": execVersion, "kind": execKind, "status": status})
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// Parent names the process that started this one: its id and when it began,
// because ids are used again. It is empty where the system does not tell.
func Parent() string {
	pid := os.Getppid()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The name in brackets may hold anything; the fields after it do not.
	_, rest, ok := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return ""
	}
	return strconv.Itoa(pid) + "/" + fields[19]
}
