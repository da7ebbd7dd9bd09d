package server

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	identityapi "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/accesskey"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	keykind "github.com/gatehouse-dev/gatehouse/internal/resource/accesskey"
)

var accessKeysResource = schema.GroupResource{Group: identityapi.GroupVersion.Group, Resource: "accesskeys"}

// Times of access keys.
const (
	// usesInterval is how often it is stored when keys were last used.
	usesInterval = 30 * time.Second
	// overInterval is how often keys that are over are looked for. A key stays
	// for a while after its end, so that people see what happened to it.
	overInterval = 5 * time.Minute
	keepKeys     = 30 * 24 * time.Hour
	keepSessions = time.Minute
	// settle is how long a creation waits until its key is known here.
	settle = time.Second
)

// accessKeys keeps the access keys: it issues them, feeds authentication with
// them and clears away what is over.
type accessKeys struct {
	memory *accesskey.Memory
	frame  func() *kubeapi.Frame
	asked  questions
	mint   mintPolicy
	now    func() time.Time
	log    *slog.Logger

	mu sync.Mutex // guards at
	// at is where the object of each key is.
	at map[string]keyObject
}

type keyObject struct {
	namespace, name string
	uid             types.UID
}

func newAccessKeys(memory *accesskey.Memory, asked questions, mint mintPolicy, frame func() *kubeapi.Frame, now func() time.Time, log *slog.Logger) *accessKeys {
	return &accessKeys{memory: memory, frame: frame, asked: asked, mint: mint, now: now, log: log, at: map[string]keyObject{}}
}

// Replace, Put and Delete are the feed of access keys.
func (k *accessKeys) Replace(list []*identityapi.AccessKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.at)
	records := make([]accesskey.Record, 0, len(list))
	for _, o := range list {
		if r, ok := keykind.Record(o); ok {
			records = append(records, r)
			k.at[r.ID] = keyObject{o.Namespace, o.Name, o.UID}
		}
	}
	k.memory.Replace(records)
}

// Put adds or changes a key.
func (k *accessKeys) Put(o *identityapi.AccessKey) {
	r, ok := keykind.Record(o)
	if !ok {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at[r.ID] = keyObject{o.Namespace, o.Name, o.UID}
	k.memory.Put(r)
}

// Delete ends a key.
func (k *accessKeys) Delete(o *identityapi.AccessKey) {
	id := strings.TrimPrefix(o.Status.CredentialID, accesskey.CredentialPrefix)
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.at, id)
	k.memory.Delete(id)
}

// issue makes the secret of a new key. One whose service account does not
// exist is left without, and refused by check.
func (k *accessKeys) issue(ctx context.Context, by resource.Caller, o *identityapi.AccessKey) func(context.Context, *identityapi.AccessKey) {
	s := o.Spec.Subject
	line, err := by.Origin()
	if err != nil {
		return nil // check says why
	}
	user := s.User
	if s.ServiceAccount != "" {
		sa, err := k.frame().Get(ctx, serviceAccounts, o.Namespace, s.ServiceAccount)
		if err != nil || sa.GetDeletionTimestamp() != nil || s.UID != "" && s.UID != string(sa.GetUID()) {
			return nil
		}
		s.UID = string(sa.GetUID())
		user = "system:serviceaccount:" + o.Namespace + ":" + s.ServiceAccount
	}
	text, record, err := accesskey.New(accesskey.Request{
		User: user, UID: s.UID, Groups: s.Groups, Extra: s.Extra, Audience: o.Spec.Audience, Namespace: o.Namespace, Origin: line,
		Lifetime: time.Duration(*o.Spec.ExpirationSeconds) * time.Second,
	}, k.now().Truncate(time.Second))
	if err != nil {
		return nil
	}
	stamp(o, record)
	return func(ctx context.Context, answer *identityapi.AccessKey) {
		ctx, cancel := context.WithTimeout(ctx, settle)
		defer cancel()
		k.memory.Wait(ctx, record.ID)
		answer.Status.Secret = text.Reveal()
	}
}

// stamp writes what is kept of a key.
func stamp(o *identityapi.AccessKey, r accesskey.Record) {
	end := metav1.NewTime(r.NotAfter)
	o.Status.CredentialID, o.Status.Hash, o.Status.Expires = r.CredentialID(), accesskey.FormatHash(r.Hash), &end
	o.Status.OpenedBy, o.Status.Origin = r.OpenedBy, r.Origin
}

// check refuses a key that would give its author more than it has. Anybody
// who may create keys may have one for itself, unless it signed in with a key:
// those could then never be taken back. A key for a service account needs what
// a token of it needs, and any other one the right to act as its subject.
func (k *accessKeys) check(ctx context.Context, by resource.Caller, o, old *identityapi.AccessKey) error {
	if old != nil {
		return nil
	}
	s := o.Spec.Subject
	if _, err := by.Origin(); err != nil {
		return err
	}
	if o.Status.Hash == "" {
		return fault.Newf(fault.Invalid, "service account %q does not exist in namespace %q, or has another uid", s.ServiceAccount, o.Namespace)
	}
	if _, node := nodegraph.NodeOf(by.Name, by.Groups); node {
		// It may have tokens of the accounts of its pods, which end with these.
		return fault.New(fault.Denied, "a node makes no access keys")
	}
	if s.ServiceAccount != "" {
		d, err := k.mint.reviews.access.Decide(ctx, subject(by), authz.Request{
			ResourceRequest: true, Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: o.Namespace, Name: s.ServiceAccount,
		})
		if err != nil {
			return err
		}
		// A key would outlive what was only delegated.
		if d.Allowed() && len(d.Delegations()) == 0 {
			return k.mint.check(ctx, by, o.Namespace, s.ServiceAccount, o.Spec.Audience)
		}
		return k.mint.reviews.access.CheckImpersonation(ctx, subject(by), access.Subject{Name: "system:serviceaccount:" + o.Namespace + ":" + s.ServiceAccount})
	}
	if isSelf(by, s) {
		return nil
	}
	return k.mint.reviews.access.CheckImpersonation(ctx, subject(by), access.Subject{Name: s.User, UID: s.UID, Groups: s.Groups, Extra: s.Extra})
}

// isSelf reports whether a subject is its author and nothing beyond: not
// another user of the name, not with further groups, and not an author whose
// credential gives less than its name. It is in all groups that a key can
// carry, too, and all that was said of the author is said of it: what is denied
// for one of them would not be denied without it.
func isSelf(by resource.Caller, s *identityapi.AccessKeySubject) bool {
	if s.User != by.Name || s.UID != by.UID || slices.ContainsFunc(s.Groups, func(g string) bool { return !slices.Contains(by.Groups, g) }) ||
		slices.ContainsFunc(authn.KeyGroups(by.Groups), func(g string) bool { return !slices.Contains(s.Groups, g) }) {
		return false
	}
	if !sameExtra(s.Extra, authn.KeyExtra(by.Extra)) {
		return false
	}
	for key, values := range by.Extra {
		switch {
		case key == authn.ExtraOrigin:
		case key == authn.ExtraCredentialID:
			if slices.ContainsFunc(values, func(id string) bool { return strings.HasPrefix(id, accesskey.CredentialPrefix) }) {
				return false
			}
		case strings.Contains(key, ".gatehouse.dev/"):
			return false // it says that the caller acts in a part, or on behalf of another
		}
	}
	return true
}

func sameExtra(a, b map[string][]string) bool { return maps.EqualFunc(a, b, slices.Equal) }

// maxReach bounds the namespaces of an answer.
const maxReach = 500

// reach answers what a key can do, by the same rules that decide.
func (k *accessKeys) reach(ctx context.Context, o *identityapi.AccessKey) (identityapi.AccessKeyReachStatus, error) {
	out := identityapi.AccessKeyReachStatus{CredentialID: o.Status.CredentialID, Audience: o.Spec.Audience, Origin: o.Status.Origin}
	record, ok := keykind.Record(o)
	if !ok {
		out.Ended = "it was never issued"
		return out, nil
	}
	id, ended := k.mint.reviews.chain.KeyHolder(ctx, record)
	if ended != nil {
		if fault.KindOf(ended) != fault.Unauthenticated {
			return out, ended
		}
		out.Ended = ended.Error()
		return out, nil
	}
	who := access.Subject{Name: id.Name(), UID: id.UID(), Groups: id.Groups(), Extra: id.Extra()}
	out.User, out.Groups = who.Name, who.Groups
	everywhere, _, err := k.asked.Access.Rules(ctx, who, "")
	if err != nil {
		return out, err
	}
	have := map[string]bool{}
	add := func(namespace string, rules []authz.Rule) {
		var own []authz.Rule
		for _, rule := range rules {
			key := rbac.Key(rule)
			if namespace == "" {
				have[key] = true
			} else if have[key] {
				continue
			}
			own = append(own, rule)
		}
		if len(own) > 0 {
			out.Scopes = append(out.Scopes, identityapi.AccessKeyScope{Namespace: namespace, Rules: rbac.PolicyRules(rbac.Compact(own))})
		}
	}
	add("", everywhere)
	for _, namespace := range k.asked.Policy.Namespaces() {
		if len(out.Scopes) > maxReach {
			out.Incomplete = true
			break
		}
		rules, _, err := k.asked.Access.Rules(ctx, who, namespace)
		if err != nil {
			return out, err
		}
		add(namespace, rules)
	}
	out.Policies = k.asked.Allowing(who)
	return out, nil
}

// Create stores the session of a door. It implements accesskey.Store: what
// opened the session was decided and recorded at the door.
func (k *accessKeys) Create(ctx context.Context, r accesskey.Record) error {
	seconds := int64(r.NotAfter.Sub(r.Created) / time.Second)
	o := &identityapi.AccessKey{
		ObjectMeta: metav1.ObjectMeta{Name: "session-" + r.ID, Namespace: r.Namespace},
		Spec: identityapi.AccessKeySpec{
			Audience: r.Audience, ExpirationSeconds: &seconds,
			Subject: &identityapi.AccessKeySubject{User: r.User, UID: r.UID, Groups: authn.KeyGroups(r.Groups), Extra: authn.KeyExtra(r.Extra)},
		},
	}
	if name, ok := strings.CutPrefix(r.User, "system:serviceaccount:"+r.Namespace+":"); ok {
		o.Spec.Subject = &identityapi.AccessKeySubject{ServiceAccount: name, UID: r.UID}
	}
	_, err := k.frame().Create(ctx, accessKeysResource, o, func(o resource.Object) { stamp(o.(*identityapi.AccessKey), r) })
	return err
}

// follow feeds the kind.
func (k *accessKeys) follow(ctx context.Context, flow *follower) {
	flow.follow(ctx, accessKeysResource, typed[*identityapi.AccessKey]{k})
}

// keyStore is accessKeys with a client, through which what is deleted is
// recorded.
type keyStore struct {
	*accessKeys
	client rest.Interface
}

var _ accesskey.Store = keyStore{}

// Delete ends a session.
func (k keyStore) Delete(ctx context.Context, r accesskey.Record) error {
	k.mu.Lock()
	at, ok := k.at[r.ID]
	k.mu.Unlock()
	if !ok {
		return nil
	}
	err := k.client.Delete().Resource("accesskeys").Namespace(at.namespace).Name(at.name).
		Body(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &at.uid}}).Do(ctx).Error()
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // another replica was faster
	}
	return err
}

// run stores when keys were used and clears away those that are over. All
// replicas do it: what is done twice stays done.
func (k keyStore) run(ctx context.Context) error {
	uses, over := time.NewTicker(usesInterval), time.NewTicker(overInterval)
	defer uses.Stop()
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-uses.C:
			k.storeUses(ctx)
		case <-over.C:
			now := k.now()
			for _, id := range k.memory.Over(now.Add(-keepKeys), now.Add(-keepSessions)) {
				if err := k.Delete(ctx, accesskey.Record{ID: id}); err != nil && ctx.Err() == nil {
					k.log.Warn("access key not cleared away", "key", id, "error", err)
				}
			}
		}
	}
}

func (k keyStore) storeUses(ctx context.Context) {
	used := k.memory.Drain()
	for _, id := range slices.Sorted(maps.Keys(used)) {
		k.mu.Lock()
		at, ok := k.at[id]
		k.mu.Unlock()
		if !ok {
			continue
		}
		when := metav1.NewTime(used[id].Truncate(time.Second))
		err := k.frame().Modify(ctx, accessKeysResource, "status", at.namespace, at.name, func(o resource.Object) error {
			if status := &o.(*identityapi.AccessKey).Status; status.LastUsed == nil || status.LastUsed.Before(&when) {
				status.LastUsed = &when
			}
			return nil
		})
		if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
			k.log.Warn("use of an access key not stored", "key", id, "error", err)
		}
	}
}

// identityClient speaks to identity.gatehouse.dev.
func identityClient(cfg *rest.Config) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	if err := identityapi.AddToScheme(scheme); err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	cfg.APIPath, cfg.GroupVersion = "/apis", &identityapi.GroupVersion
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	return rest.RESTClientFor(cfg)
}
