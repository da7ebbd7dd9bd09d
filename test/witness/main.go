// Command witness is what a test needs beside litewitness, the witness of
// filippo.io/torchwood: the agent that holds its key, a way to tell it of a log,
// and torchwood's verification of what it signed.
//
//	witness agent SOCKET               serves a new key; prints its fingerprint
//	witness add-log DATABASE LOGKEY    lets litewitness watch a log
//	witness verify KEY LOGKEY FILE     prints origin and size of a checkpoint
//	                                   that both have signed, or exits with 1
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"os"

	"filippo.io/torchwood"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "witness:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "agent":
		return serveAgent(args[1])
	case len(args) == 3 && args[0] == "add-log":
		return addLog(args[1], args[2])
	case len(args) == 4 && args[0] == "verify":
		return verify(args[1], args[2], args[3])
	}
	return fmt.Errorf("unknown arguments %q", args)
}

func serveAgent(socket string) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		return err
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	fmt.Println("key", ssh.FingerprintSHA256(public))
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() { _ = agent.ServeAgent(keys, conn) }() // ends with its client
	}
}

// addLog does what witnessctl does, which cannot be built everywhere.
func addLog(database, logKey string) error {
	log, err := note.NewVerifier(logKey)
	if err != nil {
		return err
	}
	db, err := sqlite.OpenConn(database, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer db.Close()
	empty := sha256.Sum256(nil)
	if err := sqlitex.Execute(db, "INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)",
		&sqlitex.ExecOptions{Args: []any{log.Name(), base64.StdEncoding.EncodeToString(empty[:])}}); err != nil {
		return err
	}
	return sqlitex.Execute(db, "INSERT INTO key (origin, key) VALUES (?, ?)", &sqlitex.ExecOptions{Args: []any{log.Name(), logKey}})
}

func verify(witnessKey, logKey, file string) error {
	signed, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	by, err := torchwood.NewCosignatureVerifier(witnessKey)
	if err != nil {
		return err
	}
	log, err := note.NewVerifier(logKey)
	if err != nil {
		return err
	}
	n, err := note.Open(signed, note.VerifierList(log, by))
	if err != nil {
		return err
	}
	if len(n.Sigs) != 2 {
		return fmt.Errorf("%d of 2 signatures", len(n.Sigs))
	}
	cp, err := torchwood.ParseCheckpoint(n.Text)
	if err != nil {
		return err
	}
	fmt.Println(cp.Origin, cp.N)
	return nil
}
