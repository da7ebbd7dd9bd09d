package fastlane

import "time"

// Hurry shortens what requests may take.
func Hurry(c *Config, d time.Duration) { c.times = times{d, d, d} }
