// Package identity finds out who is behind a file system request, from kernel facts alone.
//
// A FUSE request names a thread, a uid and a gid. From the thread's /proc entry come its cgroup paths in every
// hierarchy, its pid namespace and its mount table. The container is the outermost one that the cgroup paths name;
// every hierarchy that says more than "/" must agree. That the container was really given a tree is proved by the
// mount table: it has the entry of our device whose root is /<tree>. Whatever contradicts denies.
//
// While a request is being answered the kernel holds its caller, dead or alive, so a thread id cannot be reused
// before the answer; nothing here may be cached by thread id beyond one request. That this holds is checked all the
// same: the start times of the thread and of its process are read before all other facts, and again after them.
package identity
