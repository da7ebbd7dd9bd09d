package sqltest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
)

func testListPages(t *testing.T, e Engine) {
	tab := findings(t, e)
	// Byte order, where the collation of most languages has another.
	order := []string{"A", "B-1", "B1", "a", "a-b", "a.b", "aa", "b", "ä"}
	var want []string
	var rows []sql.Row
	for _, ns := range []string{"n", "n-1", "n1"} {
		for _, n := range order {
			want = append(want, ns+"/"+n)
			rows = append(rows, row(ns, n, finding{}, "all", "yes"))
		}
	}
	slices.Reverse(rows)
	mustUpsert(t, tab, rows)
	selectors := map[string][]sql.Requirement{
		"walk":     nil,
		"postings": {{Name: "all", Op: sql.In, Values: []string{"yes"}}},
		"merged":   {{Name: "all", Op: sql.In, Values: []string{"no", "yes", "maybe"}}},
		"rest":     {{Name: "all", Op: sql.NotIn, Values: []string{"no"}}},
	}
	for what, selector := range selectors {
		for limit := range len(want) + 2 {
			if got := names(all(t, tab, sql.ListOptions{Labels: selector, Limit: limit})); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s, limit %d: %v", what, limit, got)
			}
			if got := names(all(t, tab, sql.ListOptions{Namespace: "n-1", Labels: selector, Limit: limit})); !reflect.DeepEqual(got, want[9:18]) {
				t.Fatalf("%s, limit %d, one namespace: %v", what, limit, got)
			}
		}
		if got := all(t, tab, sql.ListOptions{Namespace: "none", Labels: selector}); len(got) != 0 {
			t.Errorf("%s: an empty namespace has %v", what, names(got))
		}
	}
	page, err := tab.List(t.Context(), sql.ListOptions{Limit: len(want)})
	if err != nil || page.Continue != "" {
		t.Errorf("the last row is on the page, Continue is %q, %v", page.Continue, err)
	}
	newest, err := tab.Get(t.Context(), sql.Key{Namespace: "n", Name: "a"})
	if err != nil || page.Revision < newest.Revision {
		t.Errorf("the page has revision %d, a row of it %d, %v", page.Revision, newest.Revision, err)
	}
}

// testListStable pages through a list while rows come and go around its
// cursor: what was there throughout is returned exactly once.
func testListStable(t *testing.T, e Engine) {
	tab := findings(t, e)
	var stay []sql.Row
	for i := range 200 {
		stay = append(stay, row("n", name(i*10), finding{}, "set", "x"))
	}
	mustUpsert(t, tab, stay)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := w; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				r := row("n", name((i*37%200)*10+1+w), finding{}, "set", "x")
				if _, err := tab.Upsert(t.Context(), []sql.Row{r}); err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					if _, err := tab.Delete(t.Context(), r.Key, sql.Precondition{}); err != nil && fault.KindOf(err) != fault.NotFound {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for _, selector := range [][]sql.Requirement{nil, {{Name: "set", Op: sql.In, Values: []string{"x"}}}} {
		for range 5 {
			rows := all(t, tab, sql.ListOptions{Labels: selector, Limit: 7})
			seen := map[string]int{}
			for i, r := range rows {
				seen[r.Name]++
				if i > 0 && r.Name <= rows[i-1].Name {
					t.Errorf("%s follows %s", r.Name, rows[i-1].Name)
				}
			}
			for _, r := range stay {
				if seen[r.Name] != 1 {
					t.Errorf("%s was returned %d times", r.Name, seen[r.Name])
				}
			}
		}
	}
	close(stop)
	wg.Wait()
}

// testListModel compares random selectors, after random changes, with the
// label selectors of the Kubernetes API over a plain list.
func testListModel(t *testing.T, e Engine) {
	tab := findings(t, e)
	random := rand.New(rand.NewPCG(7, 11))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	model := map[sql.Key]sql.Row{}
	for range 12 {
		batch := map[sql.Key]sql.Row{}
		for range 40 {
			r := row(pick("n1", "n2", "n3"), name(random.IntN(150)), finding{Severity: pick("High", "Low", "")})
			r.Labels = map[string]string{}
			for _, key := range []string{"app", "tier", "size", "x.io/y"} {
				if random.IntN(3) > 0 {
					r.Labels[key] = pick("a", "b", "", "5", "12", "-3")
				}
			}
			batch[r.Key] = r
		}
		mustUpsert(t, tab, slices.Collect(maps.Values(batch)))
		maps.Copy(model, batch)
		for key := range model {
			if random.IntN(8) > 0 {
				continue
			}
			if _, err := tab.Delete(t.Context(), key, sql.Precondition{}); err != nil {
				t.Fatal(err)
			}
			delete(model, key)
		}
		for range 40 {
			compareWithModel(t, tab, model, random, pick)
		}
	}
}

// operators pairs the operators of both sides.
var operators = []struct {
	ours   sql.Op
	theirs selection.Operator
	values int // 0 = none, 1 = one, 2 = one or more
}{
	{sql.In, selection.In, 2}, {sql.In, selection.Equals, 1}, {sql.In, selection.DoubleEquals, 1},
	{sql.NotIn, selection.NotIn, 2}, {sql.NotIn, selection.NotEquals, 1},
	{sql.Exists, selection.Exists, 0}, {sql.NotExists, selection.DoesNotExist, 0},
	{sql.Greater, selection.GreaterThan, 1}, {sql.Less, selection.LessThan, 1},
}

func compareWithModel(t *testing.T, tab *sql.Table, model map[sql.Key]sql.Row, random *rand.Rand, pick func(...string) string) {
	t.Helper()
	selector := labels.NewSelector()
	opts := sql.ListOptions{Namespace: pick("", "", "n1", "n2"), Limit: random.IntN(60)}
	for range random.IntN(4) {
		op := operators[random.IntN(len(operators))]
		key, values := pick("app", "tier", "size", "x.io/y", "none"), []string(nil)
		for range min(op.values, 1+random.IntN(2)) {
			if op.ours == sql.Greater || op.ours == sql.Less {
				values = []string{pick("4", "5", "12")}
			} else {
				values = append(values, pick("a", "b", "", "5", "12", "zz"))
			}
		}
		r, err := labels.NewRequirement(key, op.theirs, values)
		if err != nil {
			t.Fatal(err)
		}
		selector = selector.Add(*r)
		opts.Labels = append(opts.Labels, sql.Requirement{Name: key, Op: op.ours, Values: values})
	}
	severity := func(string) bool { return true }
	if random.IntN(3) == 0 {
		want := pick("High", "Low", "")
		if random.IntN(2) == 0 {
			opts.Fields = []sql.Requirement{{Name: "spec.severity", Op: sql.In, Values: []string{want}}}
			severity = func(s string) bool { return s == want }
		} else {
			opts.Fields = []sql.Requirement{{Name: "spec.severity", Op: sql.NotIn, Values: []string{want}}}
			severity = func(s string) bool { return s != want }
		}
	}
	want := []string{}
	for key, r := range model {
		var have string
		for _, s := range []string{"High", "Low"} {
			if strings.Contains(string(r.Payload), s) {
				have = s
			}
		}
		if (opts.Namespace == "" || opts.Namespace == key.Namespace) && selector.Matches(labels.Set(r.Labels)) && severity(have) {
			want = append(want, key.Namespace+"/"+key.Name)
		}
	}
	slices.Sort(want)
	got := all(t, tab, opts)
	if !reflect.DeepEqual(names(got), want) {
		t.Fatalf("list %+v\ngot  %v\nwant %v", opts, names(got), want)
	}
	for _, r := range got {
		if string(r.Payload) != string(model[r.Key].Payload) || r.UID == "" || !maps.Equal(r.Labels, model[r.Key].Labels) {
			t.Fatalf("listed %+v, stored %+v", r, model[r.Key])
		}
	}
}

func testListFields(t *testing.T, e Engine) {
	db := open(t, e)
	tab := table(t, db, "findings")
	a := row("n", "a", finding{Severity: "High", Asset: "web"})
	a.Owners = []string{"o1", "o2"}
	b := row("n", "b", finding{Severity: "High"})
	b.Owners = []string{"o2"}
	mustUpsert(t, tab, []sql.Row{a, b, row("m", "a", finding{Asset: "web"})})
	in := func(name string, values ...string) sql.Requirement {
		return sql.Requirement{Name: name, Op: sql.In, Values: values}
	}
	not := func(name string, values ...string) sql.Requirement {
		return sql.Requirement{Name: name, Op: sql.NotIn, Values: values}
	}
	for _, c := range []struct {
		opts sql.ListOptions
		want []string
	}{
		{sql.ListOptions{Fields: []sql.Requirement{in("spec.severity", "High")}}, []string{"n/a", "n/b"}},
		{sql.ListOptions{Fields: []sql.Requirement{in("spec.severity", "High", "")}}, []string{"m/a", "n/a", "n/b"}},
		{sql.ListOptions{Fields: []sql.Requirement{in("spec.severity", "")}}, []string{"m/a"}},
		{sql.ListOptions{Fields: []sql.Requirement{not("spec.severity", "High")}}, []string{"m/a"}},
		{sql.ListOptions{Fields: []sql.Requirement{in("spec.severity", "High"), in("spec.asset", "web")}}, []string{"n/a"}},
		{sql.ListOptions{Fields: []sql.Requirement{in(sql.FieldName, "a")}}, []string{"m/a", "n/a"}},
		{sql.ListOptions{Fields: []sql.Requirement{not(sql.FieldName, "a")}}, []string{"n/b"}},
		{sql.ListOptions{Fields: []sql.Requirement{in(sql.FieldName, "a", "b")}, Namespace: "n"}, []string{"n/a", "n/b"}},
		{sql.ListOptions{Fields: []sql.Requirement{in(sql.FieldName, "a")}, Namespace: "n"}, []string{"n/a"}},
		{sql.ListOptions{Fields: []sql.Requirement{in(sql.FieldName, "a"), in("spec.asset", "x")}, Namespace: "n"}, []string{}},
		{sql.ListOptions{Fields: []sql.Requirement{in(sql.FieldName, "a"), in(sql.FieldName, "b")}}, []string{}},
		{sql.ListOptions{Fields: []sql.Requirement{in(sql.FieldNamespace, "m")}}, []string{"m/a"}},
		{sql.ListOptions{Fields: []sql.Requirement{in(sql.FieldNamespace, "m")}, Namespace: "n"}, []string{}},
		{sql.ListOptions{Fields: []sql.Requirement{not(sql.FieldNamespace, "m")}}, []string{"n/a", "n/b"}},
		{sql.ListOptions{Owner: "o2"}, []string{"n/a", "n/b"}},
		{sql.ListOptions{Owner: "o1", Namespace: "n"}, []string{"n/a"}},
		{sql.ListOptions{Owner: "o1", Fields: []sql.Requirement{in("spec.asset", "x")}}, []string{}},
	} {
		if got := names(all(t, tab, c.opts)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: got %v, want %v", c.opts, got, c.want)
		}
	}
	archives := table(t, db, "archives")
	mustCreate(t, archives, sql.Row{Key: sql.Key{Name: "x"}, UID: "u"})
	if got := names(all(t, archives, sql.ListOptions{Fields: []sql.Requirement{in(sql.FieldName, "x")}})); len(got) != 1 {
		t.Errorf("a cluster-scoped row by name: %v", got)
	}
}

func testBadSelectors(t *testing.T, e Engine) {
	db := open(t, e)
	one := func(r sql.Requirement) []sql.Requirement { return []sql.Requirement{r} }
	for name, c := range map[string]struct {
		kind string
		opts sql.ListOptions
	}{
		"negative limit":     {"findings", sql.ListOptions{Limit: -1}},
		"zero operator":      {"findings", sql.ListOptions{Labels: one(sql.Requirement{Name: "a"})}},
		"unknown operator":   {"findings", sql.ListOptions{Labels: one(sql.Requirement{Name: "a", Op: 99})}},
		"in nothing":         {"findings", sql.ListOptions{Labels: one(sql.Requirement{Name: "a", Op: sql.In})}},
		"exists with value":  {"findings", sql.ListOptions{Labels: one(sql.Requirement{Name: "a", Op: sql.Exists, Values: []string{"x"}})}},
		"greater than text":  {"findings", sql.ListOptions{Labels: one(sql.Requirement{Name: "a", Op: sql.Greater, Values: []string{"x"}})}},
		"greater than two":   {"findings", sql.ListOptions{Labels: one(sql.Requirement{Name: "a", Op: sql.Greater, Values: []string{"1", "2"}})}},
		"no key":             {"findings", sql.ListOptions{Labels: one(sql.Requirement{Op: sql.Exists})}},
		"NUL":                {"findings", sql.ListOptions{Labels: one(sql.Requirement{Name: "a", Op: sql.In, Values: []string{"\x00"}})}},
		"undeclared field":   {"findings", sql.ListOptions{Fields: one(sql.Requirement{Name: "spec.text", Op: sql.In, Values: []string{"x"}})}},
		"field exists":       {"findings", sql.ListOptions{Fields: one(sql.Requirement{Name: "spec.asset", Op: sql.Exists})}},
		"too many":           {"findings", sql.ListOptions{Labels: slices.Repeat(one(sql.Requirement{Name: "a", Op: sql.Exists}), 65)}},
		"too many values":    {"findings", sql.ListOptions{Labels: one(sql.Requirement{Name: "a", Op: sql.In, Values: make([]string, 1001)})}},
		"cluster-scoped":     {"archives", sql.ListOptions{Namespace: "n"}},
		"namespace with NUL": {"findings", sql.ListOptions{Namespace: "\x00"}},
		"owner not UTF-8":    {"findings", sql.ListOptions{Owner: "\xff"}},
	} {
		t.Run(name, func(t *testing.T) {
			tab := table(t, db, c.kind)
			_, err := tab.List(t.Context(), c.opts)
			wantFault(t, err, fault.Invalid)
			_, err = tab.DeletePage(t.Context(), c.opts)
			wantFault(t, err, fault.Invalid)
		})
	}
	// Sets too large for one statement of merged lists still work.
	tab := table(t, db, "findings")
	mustCreate(t, tab, row("n", "a", finding{}, "v", "77"))
	var values []string
	for i := range 1000 {
		values = append(values, fmt.Sprint(i))
	}
	for _, n := range []int{16, 17, 78, 1000} {
		got := all(t, tab, sql.ListOptions{Labels: one(sql.Requirement{Name: "v", Op: sql.In, Values: values[:n]})})
		if want := n > 77; (len(got) == 1) != want {
			t.Errorf("in a set of %d: %v", n, names(got))
		}
	}
}

func testContinueTokens(t *testing.T, e Engine) {
	tab := findings(t, e)
	var rows []sql.Row
	for i := range 5 {
		rows = append(rows, row("n", name(i), finding{}, "l", "1"))
	}
	mustUpsert(t, tab, rows)
	list := sql.ListOptions{Namespace: "n", Limit: 2, Labels: []sql.Requirement{
		{Name: "l", Op: sql.In, Values: []string{"1", "2"}}, {Name: "m", Op: sql.NotExists}}}
	page, err := tab.List(t.Context(), list)
	if err != nil || page.Continue == "" {
		t.Fatalf("page %+v, %v", page, err)
	}
	token := page.Continue
	next := list
	next.Continue, next.Limit = token, 1
	// The same selector in another order, and another limit, is the same list.
	next.Labels = []sql.Requirement{list.Labels[1], {Name: "l", Op: sql.In, Values: []string{"2", "1"}}}
	if page, err = tab.List(t.Context(), next); err != nil || len(page.Rows) != 1 || page.Rows[0].Name != name(2) {
		t.Errorf("the second page is %v, %v", names(page.Rows), err)
	}
	for what, opts := range map[string]sql.ListOptions{
		"other namespace": {Namespace: "m", Labels: list.Labels},
		"all namespaces":  {Labels: list.Labels},
		"no selector":     {Namespace: "n"},
		"other selector":  {Namespace: "n", Labels: list.Labels[:1]},
		"other owner":     {Namespace: "n", Labels: list.Labels, Owner: "o"},
	} {
		opts.Continue = token
		_, err := tab.List(t.Context(), opts)
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: the token of another list gives %v", what, err)
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	bad := map[string]string{
		"text": "hello", "empty JSON": "e30", "padding": token + "=", "line break": token[:4] + "\n" + token[4:],
		"too long": strings.Repeat("A", 2000), "no name": encode(raw[:17+2]), "no key": encode(raw[:17]),
		"other version": encode(append([]byte{9}, raw[1:]...)), "NUL in name": encode(append(raw[:len(raw):len(raw)], 0)),
		"other namespace": encode(append(append(raw[:17:17], "m\x00"...), "f"...)),
		"not UTF-8":       encode(append(raw[:len(raw):len(raw)], 0xff)),
	}
	for i := range token {
		bad[fmt.Sprintf("cut at %d", i)] = token[:i]
	}
	delete(bad, "cut at 0")
	for what, forged := range bad {
		opts := list
		opts.Continue = forged
		page, err := tab.List(t.Context(), opts)
		if strings.HasPrefix(what, "cut") && err == nil {
			// A cut inside the name is a shorter name: a valid place in the
			// caller's own list.
			for _, r := range page.Rows {
				if r.Namespace != "n" {
					t.Errorf("%s: returned %v", what, r.Key)
				}
			}
			continue
		}
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// testPagesBounded uses a selector that no index serves and that matches two
// rows at the ends: pages stay short and the list is still complete.
func testPagesBounded(t *testing.T, e Engine) {
	tab := findings(t, e)
	const total = 6000
	var rows []sql.Row
	for i := range total {
		r := row("n", name(i), finding{}, "common", "yes", "also", "yes")
		if i == 0 || i == total-1 {
			r = row("n", name(i), finding{})
		}
		rows = append(rows, r)
	}
	mustUpsert(t, tab, rows[:total/2])
	mustUpsert(t, tab, rows[total/2:])
	opts := sql.ListOptions{Labels: []sql.Requirement{{Name: "common", Op: sql.NotIn, Values: []string{"yes"}}}, Limit: 500}
	page, err := tab.List(t.Context(), opts)
	if err != nil || len(page.Rows) != 1 || page.Continue == "" {
		t.Fatalf("first page: %v, continue %q, %v", names(page.Rows), page.Continue, err)
	}
	if got := names(all(t, tab, opts)); !reflect.DeepEqual(got, []string{"n/" + name(0), "n/" + name(total-1)}) {
		t.Errorf("the whole list: %v", got)
	}
	// Two long posting lists with nothing in common after the last page.
	opts.Labels = []sql.Requirement{{Name: "common", Op: sql.Exists}, {Name: "also", Op: sql.In, Values: []string{"yes"}}}
	if got := all(t, tab, opts); len(got) != total-2 {
		t.Errorf("two common labels find %d rows", len(got))
	}
	if got := all(t, tab, sql.ListOptions{}); len(got) != total {
		t.Errorf("a list without limit finds %d rows", len(got))
	}
	page, err = tab.List(t.Context(), sql.ListOptions{})
	if err != nil || len(page.Rows) != sql.MaxPageRows || page.Continue == "" {
		t.Errorf("a page without limit has %d rows, continue %q, %v", len(page.Rows), page.Continue, err)
	}

	// Large payloads end a page by their size.
	big := strings.Repeat("x", 1<<20)
	var heavy []sql.Row
	for i := range 20 {
		heavy = append(heavy, row("big", name(i), finding{Text: big}))
	}
	mustUpsert(t, tab, heavy)
	if page, err = tab.List(t.Context(), sql.ListOptions{Namespace: "big"}); err != nil || len(page.Rows) != 15 || page.Continue == "" {
		t.Errorf("a page of large rows has %d, continue %q, %v", len(page.Rows), page.Continue, err)
	}
	if got := all(t, tab, sql.ListOptions{Namespace: "big"}); len(got) != 20 {
		t.Errorf("all large rows: %d", len(got))
	}
}

func testDeletePage(t *testing.T, e Engine) {
	tab := findings(t, e)
	var rows []sql.Row
	for i := range 25 {
		rows = append(rows, row("n", name(i), finding{Severity: []string{"High", "Low"}[i%2]}, "l", "1"), row("m", name(i), finding{}))
	}
	mustUpsert(t, tab, rows)
	opts := sql.ListOptions{Namespace: "n", Limit: 4, Fields: []sql.Requirement{{Name: "spec.severity", Op: sql.In, Values: []string{"High"}}}}
	var deleted []sql.Row
	for {
		page, err := tab.DeletePage(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if deleted = append(deleted, page.Rows...); page.Continue == "" {
			break
		}
		opts.Continue = page.Continue
	}
	if len(deleted) != 13 || len(deleted[0].Payload) == 0 {
		t.Errorf("deleted %v", names(deleted))
	}
	if got := all(t, tab, sql.ListOptions{Namespace: "n"}); len(got) != 12 {
		t.Errorf("left: %v", names(got))
	}
	if got := all(t, tab, sql.ListOptions{Labels: []sql.Requirement{{Name: "l", Op: sql.Exists}}}); len(got) != 12 {
		t.Errorf("left in the index: %v", names(got))
	}
	if got := all(t, tab, sql.ListOptions{Namespace: "m"}); len(got) != 25 {
		t.Errorf("the other namespace lost rows: %d left", len(got))
	}
	// Emptying a namespace while others write there leaves no half rows.
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 10 {
				if w%2 == 0 {
					if _, err := tab.DeletePage(t.Context(), sql.ListOptions{Namespace: "m"}); err != nil {
						t.Error(err)
					}
				} else if _, err := tab.Upsert(t.Context(), []sql.Row{row("m", name(i), finding{}, "l", "2"), row("m", name(i+w), finding{}, "l", "3")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := tab.DeletePage(t.Context(), sql.ListOptions{Namespace: "m"}); err != nil {
		t.Fatal(err)
	}
	if got := all(t, tab, sql.ListOptions{Labels: []sql.Requirement{{Name: "l", Op: sql.In, Values: []string{"2", "3"}}}}); len(got) != 0 {
		t.Errorf("left in the index: %v", names(got))
	}
}
