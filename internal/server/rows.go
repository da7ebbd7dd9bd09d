package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/auditindex"
	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
)

// openRows opens the database of what is recorded in bulk: PostgreSQL if the
// configuration names one, else a SQLite file in the data directory.
func openRows(ctx context.Context, cfg config.Config, dir string, log *slog.Logger) (*sql.DB, error) {
	c := sql.Config{Kinds: []sql.Kind{auditindex.Kind()}, Logger: log}
	if path := cfg.PostgresDSNFile(); path != "" {
		dsn, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read PostgreSQL connection string: %w", err)
		}
		c.Postgres = secret.NewString(strings.TrimSpace(string(dsn)))
	} else {
		c.SQLite = filepath.Join(dir, "sql", "rows.db")
	}
	return sql.Open(ctx, c)
}

// rowsReady is the readiness of the database.
func rowsReady(db *sql.DB) kubeapi.Check {
	return kubeapi.Check{Name: "rows", Check: func(r *http.Request) error { return db.Ready(r.Context()) }}
}
