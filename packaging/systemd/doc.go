// Package systemd holds the service unit of the control plane and the test that
// keeps it sealed: systemd's own rating must stay at 1.5 or below. Start at
// gatehouse.service.
package systemd
