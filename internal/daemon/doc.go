// Package daemon puts the parts together and runs them: it is the only one that knows them all. Every goroutine of
// the product starts here, or in a Run that is started here.
package daemon
