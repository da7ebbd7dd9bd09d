package harness

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
)

// Endpoint reads the kubeconfig as kubectl does, by asking it: where the server
// is, and the TLS settings of the client it describes. The certificate is left
// out of the settings for a user without one.
func (k *Kubectl) Endpoint(ctx context.Context) (server string, config *tls.Config, err error) {
	got, err := k.Run(ctx, "", "config", "view", "--raw", "--flatten", "--minify", "-o", "json")
	if err != nil {
		return "", nil, err
	}
	var file struct {
		Clusters []struct {
			Cluster struct {
				Server string
				CA     []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			}
		}
	}
	if err := json.Unmarshal([]byte(got.Stdout), &file); err != nil {
		return "", nil, fmt.Errorf("read kubeconfig: %w: %v", err, got)
	}
	if len(file.Clusters) != 1 || len(file.Users) != 1 {
		return "", nil, errors.New("read kubeconfig: want one cluster and one user")
	}
	cluster, user := file.Clusters[0].Cluster, file.Users[0].User
	config = &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(cluster.CA) {
		return "", nil, errors.New("read kubeconfig: no certificate authority")
	}
	if user.Cert != nil {
		pair, err := tls.X509KeyPair(user.Cert, user.Key)
		if err != nil {
			return "", nil, fmt.Errorf("read kubeconfig: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return cluster.Server, config, nil
}
