package sql_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql/pgtest"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql/sqltest"
)

func TestMain(m *testing.M) {
	sql.RunCrashChild()
	os.Exit(pgtest.Main(m))
}

// engines are all there are; every test of behaviour runs on each.
func engines() []sqltest.Engine {
	return []sqltest.Engine{
		{Name: "SQLite", New: func(tb testing.TB) sql.Config {
			return sql.Config{SQLite: filepath.Join(tb.TempDir(), "data", "rows.db"), Now: sqltest.Now}
		}},
		{Name: "PostgreSQL", New: func(tb testing.TB) sql.Config {
			return sql.Config{Postgres: secret.NewString(pgtest.DSN(tb)), Now: sqltest.Now, MaxConns: 8}
		}},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, e := range engines() {
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			sqltest.Run(t, e)
		})
	}
}
