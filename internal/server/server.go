package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	certificatesv1 "k8s.io/api/certificates/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-base/metrics/legacyregistry"

	accessapi "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/aggregate"
	"github.com/gatehouse-dev/gatehouse/internal/access/authzen"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/access/noderule"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
	"github.com/gatehouse-dev/gatehouse/internal/access/review"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authzenhttp"
	"github.com/gatehouse-dev/gatehouse/internal/caller"
	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/federation/siteobjects"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/pki"
	"github.com/gatehouse-dev/gatehouse/internal/resource/all"
	"github.com/gatehouse-dev/gatehouse/internal/storage/etcd"
)

// Bounds of the process.
const (
	// maxStale is how long a replica decides without a word from etcd.
	maxStale = 5 * time.Second
	// drainTimeout is how long requests may take to end when the server stops.
	drainTimeout = 20 * time.Second
	// inFlight bounds the requests of the fast lane that are served at once.
	inFlight = 1024
	// inFlightQuestions bounds the AuthZEN requests served at once: a batch may
	// be large.
	inFlightQuestions = 256
	// maxConnections bounds the connections held open at once; further ones
	// wait to be accepted. At 50 to 100 kB each, that many fill no machine.
	maxConnections = 8192
	// maxHeaderBytes bounds a request's headers. It is far above the largest
	// token that is read, so that whoever sends a larger one is refused with
	// 401 and on record; the library's own refusal leaves no trace.
	maxHeaderBytes = 1<<20 + 64<<10
)

// Options are what the command gives the server.
type Options struct {
	Config  config.Config
	Version string
	Log     *slog.Logger
	// Ready is called once, with the URL, when the server serves.
	Ready func(url string)
	// Fatal ends the process with one line when the data turns out to be
	// damaged in a place that no error can be returned from.
	Fatal func(reason string)
	// Now is the clock of what the control plane decides and records; time.Now
	// if nil. The libraries have their own.
	Now func() time.Time
}

// Run serves until ctx ends, then drains, and returns nil. An error means that
// the server did not start, or stopped by itself.
func Run(ctx context.Context, o Options) error {
	log, now := o.Log, o.Now
	if now == nil {
		now = time.Now
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	// What survives the process.
	st, err := openState(ctx, o.Config, now, log, o.Fatal)
	if err != nil {
		return err
	}
	defer st.close()

	// Keys and certificates.
	trust, err := openTrust(ctx, st.vault, now)
	if err != nil {
		return err
	}
	blobs := etcd.NewBlobs(st.client, keyArea)
	checkpoints, err := keys.Ensure[keys.Checkpoints](ctx, st.vault)
	if err != nil {
		return err
	}
	tokenRing, err := keys.Ensure[keys.Tokens](ctx, st.vault)
	if err != nil {
		return err
	}

	// The record comes before everything that must be recorded.
	var frame *kubeapi.Frame
	theFrame := func() *kubeapi.Frame { return frame }
	books, err := openRecord(ctx, st, o.Config, checkpoints, theFrame, now, log)
	if err != nil {
		return err
	}
	defer books.close()
	record := books.log

	// The listener, so that its address is known to what names it.
	listener, err := net.Listen("tcp", o.Config.Listen())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	listener = netutil.LimitListener(listener, maxConnections)
	defer listener.Close()
	at, err := addressOf(o.Config, listener.Addr())
	if err != nil {
		return err
	}
	public, err := discoveryListener(o.Config)
	if err != nil {
		return err
	}
	serving, err := pki.NewServing(pki.ServingConfig{Authority: trust.serving, Names: at.names, Clock: now, Logger: log})
	if err != nil {
		return err
	}

	// Who is calling.
	issuerURL, err := tokenIssuer(ctx, o.Config, at, etcd.NewBlobs(st.client, settingsArea))
	if err != nil {
		return err
	}
	longest, err := longestToken(ctx, o.Config, etcd.NewBlobs(st.client, settingsArea))
	if err != nil {
		return err
	}
	iss, err := issuer.New(issuer.Config{URL: issuerURL, MaxLifetime: o.Config.MaxTokenAge(), Now: now})
	if err != nil {
		return err
	}
	if err := applyTokenKeys(iss)(tokenRing.Set(), now()); err != nil {
		return err
	}
	siteValues := etcd.NewValues(st.client, siteObjectArea)
	siteNodes := siteobjects.New(siteValues, now)
	obj := objects{inSites: siteNodes}
	banned := authn.NewBans()
	who, err := openIdentity(ctx, identityConfig{
		config: o.Config.Authentication(), vault: st.vault, trust: trust, issuer: iss, objects: &obj, sites: siteNodes, bans: banned, now: now, log: log,
	})
	if err != nil {
		return err
	}
	chain := who.chain
	if err := trust.apply(chain); err != nil {
		return err
	}

	// May they.
	policy := access.NewPolicy()
	beyond, err := newBeyondRBAC(policy, banned, now, log)
	if err != nil {
		return err
	}
	graph, marks := &nodegraph.Graph{}, &noderule.Rules{}
	authorizer, err := access.New(access.Config{Policy: policy, Nodes: graph, NodeRules: marks, Fresh: func() error {
		if age := st.monitor.Age(); age > maxStale {
			return fault.New(fault.Unavailable, "policy may be out of date: etcd has confirmed nothing for five seconds")
		}
		return nil
	}})
	if err != nil {
		return err
	}
	emergencies := &breakGlass{}
	answers := reviews{access: authorizer, review: review.Reviewer{Access: authorizer}, chain: chain, nodes: siteNodes, emergencies: emergencies}
	escalation := checks{access.Checks{Access: authorizer}}
	asked := questions{question.Asker{Access: authorizer, Policy: policy, Policies: beyond.policies,
		Accounts: beyond.accounts, ClusterRoles: beyond.clusterRoles, Namespaces: beyond.namespaces}}
	mint := mintPolicy{answers, func(ctx context.Context, site, namespace string) (string, error) {
		return obj.namespaceOfSite(ctx, site, namespace)
	}}
	accessKeys := newAccessKeys(who.accessKeys, asked, mint, theFrame, now, log)
	open, err := newStanding(chain, answers, policy, now, log)
	if err != nil {
		return err
	}

	local, err := openLocalDecisions(ctx, o.Config, st, policy, authorizer.Ready, who.index, tokenIssuers(iss, banned, now, log), now, log)
	if err != nil {
		return err
	}
	beyond.status.Follow(local.maxAge, local.banFollowers)

	// The frame.
	var mapper kindMapper
	theMapper := func() kindMapper { return mapper }
	hand := handover{checks: escalation.Checks, frame: theFrame}
	validator := beyond.validator
	validator.FindDelegation = hand.find
	kinds := all.List(all.Deps{
		AssignDomain:            answers.assignDomain,
		IssueToken:              issueToken(&issuer.Requests{Issuer: iss, Objects: &obj, Audiences: []string{apiAudience}}, mint),
		IssueProxyCertificate:   proxyCertificates{trust, answers, o.Config.Authentication().RequestHeader.AllowedNames}.issue,
		RotateTokenKeys:         tokenKeys{tokens: tokenRing, legacy: who.legacy, keep: tokenSchedule(longest).Keep, now: now}.rotate,
		IssueAccessKey:          accessKeys.issue,
		CheckAccessKey:          accessKeys.check,
		ReachOfKey:              accessKeys.reach,
		CheckRole:               escalation.role,
		CheckClusterRole:        escalation.clusterRole,
		CheckRoleBinding:        escalation.roleBinding,
		CheckClusterRoleBinding: escalation.clusterRoleBinding,
		ValidateAccessPolicy:    beyond.validator.AccessPolicy,
		CheckAccessPolicy:       escalation.accessPolicy,
		CheckBan:                escalation.ban,
		ValidateDelegation:      validator.Delegation,
		FillDelegation:          hand.fill,
		CheckDelegation:         hand.check,
		CheckNodeRule:           answers.nodeRule,
		CheckAuditSink:          answers.auditSink,
		ValidateJWT:             validateJWT(iss.URL(), authn.LegacyIssuer),
		CheckIdentityProvider:   answers.identityProvider,
		CheckSigner:             answers.signer,
		KeepRequest:             keepGiven(now),
		CompileExpressions:      kubeapi.CompileExpressions,
		CheckPolicyParams:       answers.policyParams(theMapper),
		CheckBindingParams:      answers.bindingParams(theFrame, theMapper),
		RotateSiteKeys:          who.rotateSiteKeys,
		IssueSiteCredential:     siteCredentials{trust: trust, frame: theFrame}.issue,
		IssueSourceCredential:   siteCredentials{trust: trust, frame: theFrame}.issueSource,
		ReviewToken:             answers.tokenFor,
		Decide:                  answers.decideFor,
		ListRules:               answers.rules,
		ReviewAccess:            asked.review,
		WhoCan:                  asked.whoCan,
		Explain:                 asked.explain,
		WhatCan:                 asked.whatCan,
		Impact:                  asked.impacts(beyond.validator.AccessPolicy).answer,
	})
	mapper = newKindMapper(kinds)
	frame, err = kubeapi.New(ctx, kubeapi.Config{
		Kinds:           kinds,
		Etcd:            kubeapi.EtcdEndpoints(st.endpoints),
		Sealer:          st.ring.Resources(),
		Version:         o.Version,
		ExternalAddress: at.advertised,
		Audiences:       []string{apiAudience},
		Authenticate:    kubeapi.Authenticate(caller.Frame(chain, who.note)),
		Authorizer:      standingAuthorizer{open},
		ReadsObjects:    objectReaders(policy),
		Admit:           []kubeapi.Admit{restrictNodes(&obj, answers), holdToNodeRules(marks, authorizer)},
		Recorder:        books.guard,
		AuditPolicy:     books.raised,
		Notes:           who.providers.notes,
		Fresh:           authorizer.Ready,
		Recordable:      recordable(record),
		Ready:           []kubeapi.Check{{Name: "policy", Check: func(*http.Request) error { return authorizer.Ready() }}, rowsReady(books.rows)},
		Log:             log,
	})
	if err != nil {
		return err
	}
	obj.frame = frame
	frame.Handle(issuer.DiscoveryPath, discoveryDocument(iss))
	frame.Handle(issuer.KeySetPath, keySetDocument(iss))
	books.routes(frame, answers)
	client, err := kubernetes.NewForConfig(protobuf(frame.Loopback()))
	if err != nil {
		return fmt.Errorf("client of the frame: %w", err)
	}

	// What follows the stored objects.
	directory := federation.NewDirectory(chain)
	aggregation, err := aggregate.New(aggregate.Config{Store: roleStore{client}, Log: log})
	if err != nil {
		return err
	}
	doors := siteDoors{Directory: directory, access: authorizer, status: beyond.status}
	collected, err := newCollectors(ctx, st, books.rows, chain, doors, record, books.guard, now, log)
	if err != nil {
		return err
	}
	keeper := newAccountKeeper(client)
	proxyCAs, err := who.proxyCAs()
	if err != nil {
		return err
	}
	published := newPublisher(client, trust, o.Config.Authentication().RequestHeader.AllowedNames, proxyCAs, log)
	flow := &follower{frame: frame, failed: make(chan error, 16)}
	flow.follow(ctx, roles, typed[*rbacv1.Role]{policy.Roles})
	flow.follow(ctx, clusterRoles, typed[*rbacv1.ClusterRole]{policy.ClusterRoles, notify[*rbacv1.ClusterRole](aggregation.Notify)})
	flow.follow(ctx, roleBindings, typed[*rbacv1.RoleBinding]{policy.RoleBindings, markedKind[*rbacv1.RoleBinding]{emergencies, "RoleBinding"}})
	flow.follow(ctx, clusterRoleBindings, typed[*rbacv1.ClusterRoleBinding]{policy.ClusterRoleBindings, markedKind[*rbacv1.ClusterRoleBinding]{emergencies, "ClusterRoleBinding"}})
	flow.follow(ctx, sites, typed[*federationapi.Site]{policy.Sites, directory, who.siteTokens})
	if err := who.follow(ctx, flow, client); err != nil {
		return err
	}
	accessKeys.follow(ctx, flow)
	flow.follow(ctx, namespaces, keeperNamespaces{keeper})
	flow.follow(ctx, namespaces, publishedNamespaces{published})
	flow.follow(ctx, configMaps, publishedMaps{published})
	flow.follow(ctx, serviceAccounts, keeperAccounts{keeper})
	flow.follow(ctx, pods, podGraph{graph})
	flow.follow(ctx, nodeRules, typed[*accessapi.NodeRule]{marks})
	nodeCertificates := newNodeSigner(trust, answers, theFrame, now, log)
	flow.follow(ctx, certificateRequests, nodeCertificates)
	beyond.follow(ctx, flow)
	flow.follow(ctx, accessPolicies, typed[*accessapi.AccessPolicy]{markedKind[*accessapi.AccessPolicy]{emergencies, "AccessPolicy"}})
	certificates := newClientCertificates(client, trust.client, authorizer, now, log)
	flow.follow(ctx, certificateRequests, typed[*certificatesv1.CertificateSigningRequest]{certificates})
	books.follow(ctx, flow)
	flow.follow(ctx, auditSources, typed[*auditapi.AuditSource]{collected.sources})

	// Everything below works in the background until the end.
	work := newWork(stop)
	defer work.wait()
	work.start("frame", func() error { return frame.Run(ctx) })
	work.start("etcd monitor", func() error { return st.monitor.Run(ctx) })
	if st.embedded != nil {
		work.start("etcd", func() error {
			select {
			case err := <-st.embedded.Err():
				return err
			case <-ctx.Done():
				return nil
			}
		})
	}
	if err := flow.wait(ctx); err != nil {
		return err
	}
	if err := bootstrapObjects(ctx, client); err != nil {
		return err
	}
	registry := prometheus.WrapRegistererWith(nil, legacyregistry.Registerer())
	if err := books.start(ctx, work, registry); err != nil {
		return err
	}
	work.start("aggregated roles", func() error { return aggregation.Run(ctx) })
	work.start("node certificates", func() error { nodeCertificates.run(ctx); return nil })
	work.start("public trust", func() error { published.run(ctx); return nil })
	work.start("service accounts", func() error { keeper.run(ctx); return nil })
	work.start("serving certificate", func() error { return serving.Run(ctx, time.Hour) })
	keyClient, err := identityClient(frame.Loopback())
	if err != nil {
		return err
	}
	work.start("access keys", func() error { return keyStore{accessKeys, keyClient}.run(ctx) })
	trust.run(ctx, work, chain)
	who.run(ctx, work, frame)
	work.start("token keys", func() error { return tokenRing.Run(ctx, tokenSchedule(longest), keyInterval) })
	work.start("token issuer", func() error { return tokenRing.Follow(ctx, applyTokenKeys(iss)) })
	work.start("key changes", func() error {
		return blobs.Follow(ctx, func() {
			// What another replica rotated or revoked counts here at once.
			for _, refresh := range append(append(trust.refreshers(), who.refreshers()...), tokenRing.Refresh, checkpoints.Refresh, local.ring.Refresh) {
				if err := refresh(ctx); err != nil && ctx.Err() == nil {
					log.Warn("keys not read", "error", err)
				}
			}
		})
	})
	work.start("open requests", func() error { return open.Run(ctx) })
	work.start("client certificates", func() error { return certificates.run(ctx) })
	work.start("ban status", func() error { return beyond.report(ctx, frame) })
	work.start("objects of sites", func() error { return siteValues.Follow(ctx, siteNodes.Reset, siteNodes.Apply) })
	work.start("objects of sites, status", func() error { return tendSiteObjects(ctx, frame, directory, siteNodes, log) })
	work.start("site status", func() error { return reportDoors(ctx, frame, directory, local, now, log) })
	local.run(ctx, work)
	collected.run(ctx, work, frame, directory, record, now, log)

	if public != nil {
		work.start("public keys", func() error { return serveDiscovery(ctx, public, iss, serving, log) })
	}

	// The listener of everything else.
	if err := registry.Register(who.providers); err != nil {
		return fmt.Errorf("metrics of identity providers: %w", err)
	}
	if err := registry.Register(collected.entries); err != nil {
		return fmt.Errorf("metrics of collectors: %w", err)
	}
	authZEN, err := authzenhttp.New(authzenhttp.Config{
		Next:         frame.Handler(),
		Authenticate: func(r *http.Request) (authn.Identity, bool, error) { return caller.From(r.Context(), chain, r) },
		Permit:       answers.Permit, Policy: authzen.Policy{Asker: asked.Asker}, Recorder: books.guard, AuditPolicy: books.raised,
		URL: at.url(), Now: now, Log: log, InFlight: inFlightQuestions,
	})
	if err != nil {
		return err
	}
	lane, err := fastlane.New(fastlane.Config{
		Frame: open.Handler(authZEN),
		Authenticate: func(ctx context.Context, r *http.Request) (authn.Identity, bool, error) {
			return caller.From(ctx, chain, r)
		},
		Reviews:   siteReviews{reviews: answers, objects: who.index, now: now},
		Sites:     doors,
		Snapshots: local.Publisher, Acknowledged: doors.Acknowledged,
		Recorder: books.guard, Policy: books.raised, Batch: record, SiteTokens: who.siteTokens, Objects: siteNodes, Totals: collected.senders,
		Collect: collected.serve, Observe: collected.observe,
		Now: now, Log: log, Metrics: fastlane.NewMetrics(registry), InFlight: inFlight,
	})
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           lane,
		TLSConfig:         pki.ServerTLS(serving),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       3 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250},
	}
	if err := writeAdmin(st.dir, at, trust, now); err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(tls.NewListener(listener, srv.TLSConfig)) }()
	if err := waitReady(ctx, frame.Handler()); err != nil {
		return err
	}
	if err := collected.listenSyslog(ctx, work, o.Config.SyslogListen(), pki.ServerTLS(serving), log); err != nil {
		return err
	}
	work.start("memory", func() error { return tendMemory(ctx) })
	o.Ready("https://" + at.advertised)

	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	err = context.Cause(ctx)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	log.Info("draining")
	drained, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if serr := srv.Shutdown(drained); serr != nil {
		log.Warn("requests cut off", "error", serr)
		srv.Close()
	}
	return err
}
