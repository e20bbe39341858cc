// Package routes has a host with a full routing table forward while the table
// changes, through the kernel and through proxyarpd: `make routes`.
package routes
