package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	openfgav1 "github.com/openfga/api/proto/openfga/v1"
	parser "github.com/openfga/language/pkg/go/transformer"
	"github.com/openfga/openfga/pkg/server"
	"github.com/openfga/openfga/pkg/storage/migrate"
	"github.com/openfga/openfga/pkg/storage/sqlcommon"
	"github.com/openfga/openfga/pkg/storage/sqlite"

	"github.com/gatehouse-dev/gatehouse/bench/peers/world"
)

// openfgaModel gives what a role permits in a place to whoever is bound to the
// role there.
const openfgaModel = `
model
  schema 1.1
type user
type group
  relations
    define member: [user]
type binding
  relations
    define holder: [user, group#member]
type permission
  relations
    define by: [binding]
    define allowed: holder from by
`

// openfgaWrite is how many tuples one write may hold.
const openfgaWrite = 100

type openfgaEngine struct {
	server *server.Server
	store  string
	model  string
	dir    string
}

func newOpenFGA(ctx context.Context, w *world.World) (engine, error) {
	dir, err := os.MkdirTemp("", "openfga-")
	if err != nil {
		return nil, err
	}
	uri := "file:" + filepath.Join(dir, "openfga.db") + "?_pragma=synchronous(OFF)"
	if err := migrate.RunMigrations(migrate.MigrationConfig{Engine: "sqlite", URI: uri, Timeout: time.Minute, PingTimeout: 10 * time.Second}); err != nil {
		return nil, err
	}
	store, err := sqlite.New(uri, sqlcommon.NewConfig())
	if err != nil {
		return nil, err
	}
	s, err := server.NewServerWithOpts(server.WithDatastore(store))
	if err != nil {
		return nil, err
	}
	created, err := s.CreateStore(ctx, &openfgav1.CreateStoreRequest{Name: "bench"})
	if err != nil {
		return nil, err
	}
	model, err := parser.TransformDSLToProto(openfgaModel)
	if err != nil {
		return nil, err
	}
	written, err := s.WriteAuthorizationModel(ctx, &openfgav1.WriteAuthorizationModelRequest{StoreId: created.GetId(), SchemaVersion: model.GetSchemaVersion(), TypeDefinitions: model.GetTypeDefinitions()})
	if err != nil {
		return nil, err
	}
	e := &openfgaEngine{s, created.GetId(), written.GetAuthorizationModelId(), dir}
	return e, e.write(ctx, tuples(w))
}

func tuples(w *world.World) []*openfgav1.TupleKey {
	var out []*openfgav1.TupleKey
	seen := map[string]bool{}
	add := func(object, relation, user string) {
		if k := object + " " + relation + " " + user; !seen[k] {
			seen[k] = true
			out = append(out, &openfgav1.TupleKey{Object: object, Relation: relation, User: user})
		}
	}
	for user, groups := range w.Members {
		for _, g := range groups {
			add("group:"+g, "member", "user:"+user)
		}
	}
	for _, b := range w.Bindings {
		ns := b.Namespace
		if ns == "" {
			ns = "all"
		}
		binding := "binding:" + b.Role + "/" + ns
		who := "user:" + b.Subject
		if b.Group {
			who = "group:" + b.Subject + "#member"
		}
		add(binding, "holder", who)
		for _, r := range w.Roles[b.Role] {
			names := r.Names
			if len(names) == 0 {
				names = []string{"all"}
			}
			for _, v := range r.Verbs {
				for _, n := range names {
					add(permission(ns, r.Resource, v, n), "by", binding)
				}
			}
		}
	}
	return out
}

func permission(namespace, resource, verb, name string) string {
	return "permission:" + namespace + "/" + resource + "/" + verb + "/" + name
}

func (e *openfgaEngine) write(ctx context.Context, list []*openfgav1.TupleKey) error {
	for len(list) > 0 {
		n := min(len(list), openfgaWrite)
		if _, err := e.server.Write(ctx, &openfgav1.WriteRequest{StoreId: e.store, AuthorizationModelId: e.model, Writes: &openfgav1.WriteRequestWrites{TupleKeys: list[:n]}}); err != nil {
			return fmt.Errorf("write tuples: %w", err)
		}
		list = list[n:]
	}
	return nil
}

// allowed asks for the place and for all places, for the name and for all names,
// until one is allowed: the model has no wildcard for an object.
func (e *openfgaEngine) allowed(ctx context.Context, q *world.Question) (bool, error) {
	for _, ns := range []string{q.Namespace, "all"} {
		for _, name := range []string{"all", q.Name} {
			r, err := e.server.Check(ctx, &openfgav1.CheckRequest{StoreId: e.store, AuthorizationModelId: e.model,
				TupleKey: &openfgav1.CheckRequestTupleKey{User: "user:" + q.User, Relation: "allowed", Object: permission(ns, q.Resource, q.Verb, name)}})
			if err != nil || r.GetAllowed() {
				return r.GetAllowed(), err
			}
		}
	}
	return false, nil
}

// Close ends the server and removes its data.
func (e *openfgaEngine) Close() {
	e.server.Close()
	_ = os.RemoveAll(e.dir)
}
