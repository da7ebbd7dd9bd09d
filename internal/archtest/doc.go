// Package archtest keeps the shape of the repository: which package may import
// what and why, that every package says what it owns, that ARCHITECTURE.md
// points at files, symbols and tests that exist, and that every dependency has
// a written reason.
//
// It holds no production code. Start at rules_test.go, the table of import
// rules; a new rule is one entry there.
package archtest
