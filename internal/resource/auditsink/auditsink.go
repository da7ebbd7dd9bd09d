// Package auditsink describes audit sinks: to whom the record is passed on.
// What they do is in internal/audit/sink and internal/auditsink. Start with
// [New].
package auditsink

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/auditsink/outbound"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/auditpolicy"
)

// Bounds of a sink.
const (
	maxBundle     = 64 << 10 // bytes of caBundle
	maxNamespaces = 256      // of a scope
	maxText       = 1024     // bytes of a URL or prefix
	maxBrokers    = 32       // of kafka
)

// Check refuses a sink that its author may not write: one that sees what the
// author may not, or names a secret that the author may not read. old is nil
// on creation, sink on deletion. It returns an error of package fault.
type Check func(ctx context.Context, author resource.Caller, sink, old *auditapi.AuditSink) error

// New describes audit sinks.
func New(check Check) resource.Kind {
	var checkDelete func(context.Context, resource.Caller, *auditapi.AuditSink) error
	if check != nil {
		// Whoever may not read what a sink passes on may not end it either.
		checkDelete = func(ctx context.Context, author resource.Caller, s *auditapi.AuditSink) error {
			return check(ctx, author, nil, s)
		}
	}
	return resource.Definition[*auditapi.AuditSink]{
		Names: resource.Names{
			GroupVersion: auditapi.GroupVersion,
			Kind:         "AuditSink",
			Resource:     "auditsinks",
			Singular:     "auditsink",
		},
		New:     func() *auditapi.AuditSink { return &auditapi.AuditSink{} },
		NewList: func() runtime.Object { return &auditapi.AuditSinkList{} },
		Default: func(s *auditapi.AuditSink) {
			if s3 := s.Spec.S3; s3 != nil && s3.Region == "" {
				s3.Region = "us-east-1"
			}
			if k := s.Spec.Kafka; k != nil && k.Compression == "" {
				k.Compression = auditapi.KafkaZstd
			}
			if k := s.Spec.Kafka; k != nil && k.Key == "" {
				k.Key = auditapi.KafkaKeyAuditID
			}
		},
		PrepareCreate: func(_ resource.Caller, s *auditapi.AuditSink) {
			s.Status = auditapi.AuditSinkStatus{}
			s.Generation = 1
		},
		PrepareUpdate: func(_ resource.Caller, s, old *auditapi.AuditSink) {
			s.Status = old.Status
			s.Generation = old.Generation
			if !apiequality.Semantic.DeepEqual(s.Spec, old.Spec) {
				s.Generation++
			}
		},
		Validate:    validate,
		Check:       check,
		CheckDelete: checkDelete,
		Columns: []resource.Column[*auditapi.AuditSink]{
			{Name: "Type", Description: "How it is passed on.", Value: func(s *auditapi.AuditSink) any { return kinds(&s.Spec) }},
			{Name: "Scope", Description: "What of the record.", Value: func(s *auditapi.AuditSink) any { return scope(&s.Spec) }},
			{Name: "Lag", Description: "How many records wait, on all replicas.", Value: func(s *auditapi.AuditSink) any { return lag(s) }},
			{Name: "State", Description: "Whether the receiver takes them.", Value: func(s *auditapi.AuditSink) any { return state(s) }},
			resource.Age[*auditapi.AuditSink](),
			{Name: "Target", Priority: 1, Description: "Where to.", Value: func(s *auditapi.AuditSink) any { return target(&s.Spec) }},
		},
		Subresources: []resource.Subresource[*auditapi.AuditSink]{{
			Name: "status",
			Prepare: func(_ resource.Caller, s, old *auditapi.AuditSink) {
				s.Spec = old.Spec
				s.Generation = old.Generation
			},
			Validate: validateStatus,
			Fields:   []string{"status"},
			Ignored:  []string{"spec"},
		}},
	}.Kind()
}

// receivers returns the names of the receivers that are given.
func receivers(s *auditapi.AuditSinkSpec) []string {
	var out []string
	for name, given := range map[string]bool{
		"webhook": s.Webhook != nil, "syslog": s.Syslog != nil, "otlp": s.OTLP != nil, "s3": s.S3 != nil, "kafka": s.Kafka != nil, "directory": s.Directory != nil,
	} {
		if given {
			out = append(out, name)
		}
	}
	return out
}

func kinds(s *auditapi.AuditSinkSpec) string {
	if out := receivers(s); len(out) == 1 {
		return out[0]
	}
	return ""
}

func scope(s *auditapi.AuditSinkSpec) string {
	switch {
	case s.Scope == nil:
		return "*"
	case s.Scope.Domain != "":
		return "domain " + s.Scope.Domain
	}
	return strings.Join(s.Scope.Namespaces, ",")
}

func target(s *auditapi.AuditSinkSpec) string {
	switch {
	case s.Webhook != nil:
		return s.Webhook.URL
	case s.Syslog != nil:
		return s.Syslog.Address
	case s.OTLP != nil:
		return s.OTLP.URL
	case s.S3 != nil:
		return s.S3.Endpoint + "/" + s.S3.Bucket
	case s.Kafka != nil:
		return strings.Join(s.Kafka.Brokers, ",") + "/" + s.Kafka.Topic
	}
	return ""
}

func lag(s *auditapi.AuditSink) int64 {
	var n int64
	for i := range s.Status.Replicas {
		n += s.Status.Replicas[i].Lag
	}
	return n
}

func state(s *auditapi.AuditSink) string {
	switch {
	case len(s.Status.Replicas) == 0:
		return "Pending"
	default:
		for i := range s.Status.Replicas {
			if s.Status.Replicas[i].Error != "" {
				return "Failing"
			}
		}
	}
	return "Delivering"
}

func validate(s *auditapi.AuditSink) field.ErrorList {
	spec, path := &s.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if len(receivers(spec)) != 1 {
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "exactly one of webhook, syslog, otlp, s3, kafka and directory must be given"))
	}
	if spec.Scope != nil {
		errs = append(errs, validateScope(spec.Scope, path.Child("scope"))...)
	}
	if spec.Policy != nil {
		errs = append(errs, auditpolicy.Validate(spec.Policy, path.Child("policy"))...)
	}
	if spec.Credential != nil {
		at := path.Child("credential")
		for _, msg := range metav1validation.ValidateNamespaceName(spec.Credential.Namespace, false) {
			errs = append(errs, field.Invalid(at.Child("namespace"), spec.Credential.Namespace, msg))
		}
		for _, msg := range validation.IsDNS1123Subdomain(spec.Credential.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), spec.Credential.Name, msg))
		}
	}
	if w := spec.Webhook; w != nil {
		errs = append(errs, validateURL(w.URL, path.Child("webhook", "url"))...)
		errs = append(errs, validateBundle(w.CABundle, path.Child("webhook", "caBundle"))...)
	}
	if o := spec.OTLP; o != nil {
		errs = append(errs, validateURL(o.URL, path.Child("otlp", "url"))...)
		errs = append(errs, validateBundle(o.CABundle, path.Child("otlp", "caBundle"))...)
	}
	if y := spec.Syslog; y != nil {
		errs = append(errs, validateAddress(y.Address, path.Child("syslog", "address"))...)
		errs = append(errs, validateBundle(y.CABundle, path.Child("syslog", "caBundle"))...)
		if y.ServerName != "" && net.ParseIP(y.ServerName) == nil {
			for _, msg := range validation.IsDNS1123Subdomain(y.ServerName) {
				errs = append(errs, field.Invalid(path.Child("syslog", "serverName"), y.ServerName, msg))
			}
		}
	}
	if b := spec.S3; b != nil {
		errs = append(errs, validateS3(b, path.Child("s3"))...)
		if spec.Credential == nil {
			errs = append(errs, field.Required(path.Child("credential"), "s3 needs accessKeyID and secretAccessKey"))
		}
	}
	if k := spec.Kafka; k != nil {
		errs = append(errs, validateKafka(k, path.Child("kafka"))...)
		if k.SASL != nil && spec.Credential == nil {
			errs = append(errs, field.Required(path.Child("credential"), "sasl needs username and password"))
		}
	}
	if spec.Directory != nil && spec.Credential != nil {
		errs = append(errs, field.Forbidden(path.Child("credential"), "a directory has none"))
	}
	if spec.Directory != nil && spec.Scope != nil {
		errs = append(errs, field.Forbidden(path.Child("scope"), "a directory belongs to whoever runs the replica"))
	}
	return errs
}

func validateScope(s *auditapi.SinkScope, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case (s.Domain == "") == (len(s.Namespaces) == 0):
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "exactly one of domain and namespaces must be given"))
	case s.Domain != "":
		for _, msg := range validation.IsValidLabelValue(s.Domain) {
			errs = append(errs, field.Invalid(path.Child("domain"), s.Domain, msg))
		}
	case len(s.Namespaces) > maxNamespaces:
		errs = append(errs, field.TooMany(path.Child("namespaces"), len(s.Namespaces), maxNamespaces))
	}
	seen := map[string]bool{}
	for i, n := range s.Namespaces {
		at := path.Child("namespaces").Index(i)
		for _, msg := range metav1validation.ValidateNamespaceName(n, false) {
			errs = append(errs, field.Invalid(at, n, msg))
		}
		if seen[n] {
			errs = append(errs, field.Duplicate(at, n))
		}
		seen[n] = true
	}
	return errs
}

func validateURL(text string, path *field.Path) field.ErrorList {
	switch {
	case text == "":
		return field.ErrorList{field.Required(path, "must be given")}
	case len(text) > maxText:
		return field.ErrorList{field.TooLong(path, "", maxText)}
	}
	if err := outbound.CheckURL(text); err != nil {
		return field.ErrorList{field.Invalid(path, text, err.Error())}
	}
	return nil
}

func validateAddress(text string, path *field.Path) field.ErrorList {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return field.ErrorList{field.Invalid(path, text, "must be host:port")}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return field.ErrorList{field.Invalid(path, text, "the port must be a number from 1 to 65535")}
	}
	if net.ParseIP(host) == nil {
		for _, msg := range validation.IsDNS1123Subdomain(host) {
			return field.ErrorList{field.Invalid(path, text, "host: "+msg)}
		}
	}
	return nil
}

var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	regionName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	objectName = regexp.MustCompile(`^[A-Za-z0-9/_.=-]*$`)
)

func validateS3(s *auditapi.S3Sink, path *field.Path) field.ErrorList {
	errs := validateURL(s.Endpoint, path.Child("endpoint"))
	errs = append(errs, validateBundle(s.CABundle, path.Child("caBundle"))...)
	if !bucketName.MatchString(s.Bucket) {
		errs = append(errs, field.Invalid(path.Child("bucket"), s.Bucket, fmt.Sprintf("must match %s", bucketName)))
	}
	if !regionName.MatchString(s.Region) {
		errs = append(errs, field.Invalid(path.Child("region"), s.Region, fmt.Sprintf("must match %s", regionName)))
	}
	switch {
	case len(s.Prefix) > maxText:
		errs = append(errs, field.TooLong(path.Child("prefix"), "", maxText))
	case !objectName.MatchString(s.Prefix) || strings.HasPrefix(s.Prefix, "/") || strings.Contains("/"+s.Prefix+"/", "/../") || strings.Contains("/"+s.Prefix, "//"):
		errs = append(errs, field.Invalid(path.Child("prefix"), s.Prefix, "must consist of letters, digits and /_.=-, without a leading or doubled / and without .."))
	}
	return errs
}

// topicName is what Kafka allows.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func validateKafka(k *auditapi.KafkaSink, path *field.Path) field.ErrorList {
	errs := validateBundle(k.CABundle, path.Child("caBundle"))
	switch brokers := path.Child("brokers"); {
	case len(k.Brokers) == 0:
		errs = append(errs, field.Required(brokers, "at least one host:port must be given"))
	case len(k.Brokers) > maxBrokers:
		errs = append(errs, field.TooMany(brokers, len(k.Brokers), maxBrokers))
	default:
		seen := map[string]bool{}
		for i, b := range k.Brokers {
			errs = append(errs, validateAddress(b, brokers.Index(i))...)
			if seen[b] {
				errs = append(errs, field.Duplicate(brokers.Index(i), b))
			}
			seen[b] = true
		}
	}
	if !topicName.MatchString(k.Topic) || k.Topic == "." || k.Topic == ".." {
		errs = append(errs, field.Invalid(path.Child("topic"), k.Topic, fmt.Sprintf("must match %s and not be . or ..", topicName)))
	}
	if k.SASL != nil {
		errs = append(errs, oneOf(k.SASL.Mechanism, path.Child("sasl", "mechanism"), auditapi.KafkaPlain, auditapi.KafkaSCRAMSHA256, auditapi.KafkaSCRAMSHA512)...)
	}
	errs = append(errs, oneOf(k.Compression, path.Child("compression"),
		auditapi.KafkaUncompressed, auditapi.KafkaGzip, auditapi.KafkaSnappy, auditapi.KafkaLZ4, auditapi.KafkaZstd)...)
	return append(errs, oneOf(k.Key, path.Child("key"), auditapi.KafkaKeyAuditID, auditapi.KafkaKeyUser, auditapi.KafkaKeyNone)...)
}

func oneOf[T ~string](value T, path *field.Path, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, allowed)}
}

func validateBundle(bundle []byte, path *field.Path) field.ErrorList {
	if len(bundle) == 0 {
		return nil
	}
	if len(bundle) > maxBundle {
		return field.ErrorList{field.TooLong(path, "", maxBundle)}
	}
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "must hold PEM certificates")}
		}
		if block.Type != "CERTIFICATE" {
			return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "must hold certificates only")}
		}
		if len(strings.TrimSpace(string(rest))) == 0 {
			return nil
		}
	}
}

func validateStatus(s, _ *auditapi.AuditSink) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range s.Status.Replicas {
		r, path := &s.Status.Replicas[i], field.NewPath("status", "replicas").Index(i)
		switch {
		case r.Log == "":
			errs = append(errs, field.Required(path.Child("log"), "must be given"))
		case seen[r.Log]:
			errs = append(errs, field.Duplicate(path.Child("log"), r.Log))
		}
		seen[r.Log] = true
	}
	return errs
}
