package pod

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// messages puts what a grammar check found under a path.
func messages(at *field.Path, value string, msgs []string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(at, value, msg))
	}
	return errs
}

// named asks for a value that passes a grammar check.
func named(at *field.Path, value string, check func(string) []string) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return messages(at, value, check(value))
}

// optional applies a grammar check to a value that may be left out.
func optional(at *field.Path, value string, check func(string) []string) field.ErrorList {
	if value == "" {
		return nil
	}
	return messages(at, value, check(value))
}

// oneOf asks for one of a few values.
func oneOf[T ~string](at *field.Path, value T, known ...T) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(at, "")}
	case !slices.Contains(known, value):
		return field.ErrorList{field.NotSupported(at, value, known)}
	}
	return nil
}

// oneOfPtr is oneOf for a value that may be left out.
func oneOfPtr[T ~string](at *field.Path, value *T, known ...T) field.ErrorList {
	if value == nil {
		return nil
	}
	return oneOf(at, *value, known...)
}

func notNegative(at *field.Path, value int64) field.ErrorList {
	if value < 0 {
		return field.ErrorList{field.Invalid(at, value, "must not be negative")}
	}
	return nil
}

func fileMode(at *field.Path, mode *int32) field.ErrorList {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		return field.ErrorList{field.Invalid(at, *mode, "must be between 0 and 0777 (octal), 511 (decimal)")}
	}
	return nil
}

func noBacksteps(at *field.Path, value string) field.ErrorList {
	if slices.Contains(strings.Split(value, "/"), "..") {
		return field.ErrorList{field.Invalid(at, value, "must not contain '..'")}
	}
	return nil
}

// descending asks for a path that stays below where it starts.
func descending(at *field.Path, value string) field.ErrorList {
	errs := noBacksteps(at, value)
	if path.IsAbs(value) {
		errs = append(errs, field.Invalid(at, value, "must be relative"))
	}
	return errs
}

// projected asks for the path of a file in a volume; the kubelet keeps names
// that start with two dots to itself.
func projected(at *field.Path, value string) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := descending(at, value)
	if strings.HasPrefix(value, "..") && !strings.HasPrefix(value, "../") {
		errs = append(errs, field.Invalid(at, value, "must not start with '..'"))
	}
	return errs
}

func portNumberOrName(at *field.Path, port intstr.IntOrString) field.ErrorList {
	if port.Type == intstr.String {
		return messages(at, port.StrVal, validation.IsValidPortName(port.StrVal))
	}
	var errs field.ErrorList
	for _, msg := range validation.IsValidPortNum(port.IntValue()) {
		errs = append(errs, field.Invalid(at, port.IntValue(), msg))
	}
	return errs
}

func address(at *field.Path, value string) field.ErrorList {
	if a, err := netip.ParseAddr(value); err != nil || a.Zone() != "" {
		return field.ErrorList{field.Invalid(at, value, "must be an IP address")}
	}
	return nil
}

func id(at *field.Path, value *int64, check func(int64) []string) field.ErrorList {
	if value == nil {
		return nil
	}
	var errs field.ErrorList
	for _, msg := range check(*value) {
		errs = append(errs, field.Invalid(at, *value, msg))
	}
	return errs
}

// isTrue reads a switch that is off unless it is on.
func isTrue(b *bool) bool { return b != nil && *b }

func isIPv4(ip string) bool {
	a, err := netip.ParseAddr(ip)
	return err == nil && a.Unmap().Is4()
}
