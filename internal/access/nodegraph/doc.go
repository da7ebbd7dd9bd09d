// Package nodegraph decides what the node of a cluster may do by itself: read
// what its pods need, and keep its own objects.
//
// It owns the relation between nodes and objects ([Graph]), fed from watches
// and changed in place, and the rules on top of it ([Graph.Decide]). Sources
// come from objects (package nodeneeds) or from a connected site, which sends
// nothing but names.
//
// It refuses to know who is calling: [NodeOf] reads a node's name from names
// that authentication established. What depends on the content of a change (a
// label, the owner of a pod) is not decided here but at admission, in package
// noderestriction; a rule here that allows a verb without looking at the object
// says so.
//
// Start with [Graph.Decide].
package nodegraph
