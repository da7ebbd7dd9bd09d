// Package server is the composition root of the control plane: what runs, in
// which order it starts, and how it stops. It is the one package that imports
// everything, and it holds no rule that belongs to a domain.
//
// Start with [Run]; the order of the start is the order of its lines.
package server
