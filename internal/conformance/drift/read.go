package drift

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Bounds on a dump.
const (
	maxFile    = 256 << 20
	maxFiles   = 10_000
	maxObjects = 2_000_000
)

// Read reads dumps: files, and the files of folders. YAML and JSON hold objects
// or Lists of them: roles and bindings, and Pods or manifests of kube-apiserver
// for its flags. A text file holds a command line of kube-apiserver, in one line
// or with one flag in each. Other objects are passed over.
func Read(paths []string) (*Cluster, error) {
	c := &Cluster{}
	n := 0
	for _, path := range paths {
		err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir():
				return nil
			case n >= maxFiles:
				return fmt.Errorf("more than %d files", maxFiles)
			}
			n++
			if err := c.file(name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if c.empty() {
		return nil, errors.New("neither roles nor bindings nor a command line of kube-apiserver was found")
	}
	return c, nil
}

func (c *Cluster) empty() bool {
	return len(c.ClusterRoles)+len(c.ClusterRoleBindings)+len(c.Roles)+len(c.RoleBindings)+len(c.Flags) == 0
}

func (c *Cluster) file(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return err
	case len(data) > maxFile:
		return fmt.Errorf("larger than %d bytes", maxFile)
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return c.Objects(data, filepath.Base(name))
	}
	if args, ok := commandLine(string(data)); ok {
		c.Flags = append(c.Flags, Flags{Source: filepath.Base(name), Args: args})
		return nil
	}
	return c.Objects(data, filepath.Base(name))
}

// commandLine reads flags, one in each line or all in one; ok is false for text
// that is something else.
func commandLine(text string) (args []string, ok bool) {
	for _, word := range strings.Fields(strings.ReplaceAll(text, "\x00", " ")) {
		switch {
		case strings.HasPrefix(word, "--"):
			args = append(args, strings.Trim(word, `"'\`))
		case word == `\` || strings.HasSuffix(word, "kube-apiserver"):
		case strings.ContainsAny(word, ":{}") && len(args) == 0:
			return nil, false
		}
	}
	return args, len(args) > 0
}

// Objects adds the objects of YAML or JSON documents.
func (c *Cluster) Objects(data []byte, source string) error {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := c.object(raw, source, true); err != nil {
			return err
		}
	}
}

func (c *Cluster) object(raw []byte, source string, lists bool) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var head struct {
		metav1.TypeMeta `json:",inline"`
		GitVersion      string                       `json:"gitVersion"`
		ServerVersion   *struct{ GitVersion string } `json:"serverVersion"`
		Items           []json.RawMessage            `json:"items"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return err
	}
	switch {
	case head.ServerVersion != nil:
		c.Version = head.ServerVersion.GitVersion // kubectl version -o yaml
		return nil
	case head.GitVersion != "":
		c.Version = head.GitVersion // kubectl get --raw /version
		return nil
	case head.Items != nil && lists:
		kind := strings.TrimSuffix(head.Kind, "List")
		for _, item := range head.Items {
			// Items of a typed list do not say what they are.
			item, err := typed(item, head.APIVersion, kind)
			if err != nil {
				return err
			}
			if err := c.object(item, source, false); err != nil {
				return err
			}
		}
		return nil
	}
	if len(c.ClusterRoles)+len(c.ClusterRoleBindings)+len(c.Roles)+len(c.RoleBindings) > maxObjects {
		return fmt.Errorf("more than %d objects", maxObjects)
	}
	isRBAC := strings.HasPrefix(head.APIVersion, rbacv1.GroupName+"/")
	switch {
	case isRBAC && head.Kind == "ClusterRole":
		return read(raw, &c.ClusterRoles)
	case isRBAC && head.Kind == "ClusterRoleBinding":
		return read(raw, &c.ClusterRoleBindings)
	case isRBAC && head.Kind == "Role":
		return read(raw, &c.Roles)
	case isRBAC && head.Kind == "RoleBinding":
		return read(raw, &c.RoleBindings)
	case head.APIVersion == "v1" && head.Kind == "Pod":
		var pod corev1.Pod
		if err := json.Unmarshal(raw, &pod); err != nil {
			return err
		}
		c.pod(&pod, source)
	}
	return nil
}

func typed(raw json.RawMessage, version, kind string) (json.RawMessage, error) {
	var head metav1.TypeMeta
	if err := json.Unmarshal(raw, &head); err != nil || head.Kind != "" || kind == "" {
		return raw, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	fields["apiVersion"], fields["kind"] = json.RawMessage(jsonText(version)), json.RawMessage(jsonText(kind))
	return json.Marshal(fields)
}

func read[T any](raw []byte, to *[]T) error {
	var one T
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*to = append(*to, one)
	return nil
}

var imageVersion = regexp.MustCompile(`kube-apiserver(?:-[a-z0-9]+)?:(v\d+\.\d+\.\d+)`)

// pod takes the command line of a kube-apiserver.
func (c *Cluster) pod(pod *corev1.Pod, source string) {
	if pod.Namespace != "" && pod.Name != "" {
		source = "Pod/" + pod.Namespace + "/" + pod.Name
	}
	for i := range pod.Spec.Containers {
		x := &pod.Spec.Containers[i]
		args := slices.Concat(x.Command, x.Args)
		if !slices.ContainsFunc(args, func(a string) bool { return a == "kube-apiserver" || strings.HasSuffix(a, "/kube-apiserver") }) {
			continue
		}
		c.Flags = append(c.Flags, Flags{Source: source, Args: args})
		if m := imageVersion.FindStringSubmatch(x.Image); m != nil && c.Version == "" {
			c.Version = m[1]
		}
	}
}
