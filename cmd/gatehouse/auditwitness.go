package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
	"github.com/gatehouse-dev/gatehouse/internal/auditwitness"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
)

// witnessOptions are the flags of audit witness.
type witnessOptions struct {
	name, state, listen, cert, key string
	logs                           []string
}

func auditWitnessCommand() *cobra.Command {
	var o witnessOptions
	c := &cobra.Command{
		Use:   "witness",
		Short: "Watch the logs of others",
		Long: `Runs a witness (C2SP tlog-witness): it signs each checkpoint of the logs that it
was given, after it saw a proof that the log only grew since the last one it
signed. Run it where who runs the control plane has no access. Its key and the
newest checkpoint of each log, which is an anchor for "gatehouse audit verify
--checkpoint", are kept in the state directory; the key is made at the first
start.

It prints its public key, for the configuration of the control plane
(audit.witnesses) and for "gatehouse audit verify --witness", and one line
"ready URL" when it serves. Without a certificate it serves plain HTTP and
listens on loopback only, for a proxy in front.`,
		Example: `  gatehouse audit witness --name witness.example/w1 --state ./witness \
    --log gatehouse/5f1c2a9be07d4433+1a2b3c4d+AQ... \
    --listen 192.0.2.7:7444 --tls-cert w1.crt --tls-key w1.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runWitness(cmd.Context(), o, cmd.OutOrStdout(), slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		},
	}
	f := c.Flags()
	f.StringVar(&o.name, "name", "", "name of the witness, a URL without its scheme (required)")
	f.StringVar(&o.state, "state", "gatehouse-witness", "directory of the key and the checkpoints")
	f.StringArrayVar(&o.logs, "log", nil, `public key of a log to watch, as "gatehouse audit logs --output json" shows it; may be given again (required)`)
	f.StringVar(&o.listen, "listen", "127.0.0.1:7444", "host:port to listen on")
	f.StringVar(&o.cert, "tls-cert", "", "certificate chain in PEM")
	f.StringVar(&o.key, "tls-key", "", "key of the certificate in PEM")
	c.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	return c
}

func runWitness(ctx context.Context, o witnessOptions, out io.Writer, log *slog.Logger) error {
	usage := func(err error) error { return &exit{exitUsage, err} }
	if o.name == "" || len(o.logs) == 0 {
		return usage(errors.New("--name and --log are required"))
	}
	conf, err := witnessTLS(o)
	if err != nil {
		return usage(err)
	}
	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return usage(err)
	}
	// Two on one state could sign two faces.
	lock, err := vfs.OS{}.Lock(filepath.Join(o.state, "lock"))
	if err != nil {
		return usage(err)
	}
	defer lock.Close()
	private, err := witnessKey(filepath.Join(o.state, "witness.key"))
	if err != nil {
		return usage(err)
	}
	signer, err := witness.NewSigner(o.name, private, time.Now)
	if err != nil {
		return usage(err)
	}
	w, err := witness.NewWitness(signer, o.logs, vfs.OS{}, filepath.Join(o.state, "checkpoints"), log)
	if err != nil {
		return usage(err)
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return usage(err)
	}
	scheme := "http"
	if conf != nil {
		scheme, listener = "https", tls.NewListener(listener, conf)
	}
	server := &http.Server{
		Handler: auditwitness.NewHandler(w, log), MaxHeaderBytes: 16 << 10,
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	fmt.Fprintln(out, "witness", signer.String())
	fmt.Fprintf(out, "ready %s://%s\n", scheme, listener.Addr())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return server.Shutdown(end)
}

// witnessTLS returns nil for plain HTTP, which is for loopback only.
func witnessTLS(o witnessOptions) (*tls.Config, error) {
	if o.cert == "" {
		host, _, err := net.SplitHostPort(o.listen)
		if err != nil {
			return nil, fmt.Errorf("--listen %q is not host:port", o.listen)
		}
		if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
			return nil, errors.New("without --tls-cert and --tls-key only a loopback address can be listened on")
		}
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}, nil
}

// witnessKey reads the key, or makes it for a new witness.
func witnessKey(path string) (ed25519.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return key, durable.CreateFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others; run chmod 600 %s", path, path)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, fmt.Errorf("%s is not one PEM private key", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if private, ok := key.(ed25519.PrivateKey); err == nil && ok {
		return private, nil
	}
	return nil, fmt.Errorf("%s is not an Ed25519 key", path)
}
