package rbac

import "github.com/gatehouse-dev/gatehouse/authz"

// MaxActions bounds the single actions (verb × group × resource × name) that
// one grant may spell out, because each is compared with every rule of its
// author. An object within the size limit of the API could list more than
// 10^15.
const MaxActions = 100_000

// TooWide reports whether rules spell out more than [MaxActions].
func TooWide(rules []authz.Rule) bool {
	total := 0
	for _, r := range rules {
		total += len(r.Verbs) * len(r.NonResourceURLs)
		product := 1
		for _, factor := range [...]int{len(r.Verbs), len(r.APIGroups), len(r.Resources), max(len(r.ResourceNames), 1)} {
			if factor == 0 {
				product = 0
				break
			}
			// Both factors fit in 32 bits here, so this cannot overflow.
			if product *= factor; product > MaxActions {
				product = MaxActions + 1
			}
		}
		if total += product; total > MaxActions {
			return true
		}
	}
	return false
}
