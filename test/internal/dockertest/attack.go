package dockertest

import (
	_ "embed"
	"slices"
)

// AttackForge is a shell script that moves its process into another
// container's cgroup in every hierarchy. Run it with AttackArgv in a container
// made by Attacker.
//
//go:embed attack_forge.sh
var AttackForge string

// AttackNest is a shell script that moves its process into a cgroup
// "docker/<victim>" below its own. Run it as AttackForge.
//
//go:embed attack_nest.sh
var AttackNest string

// AttackFailed is the exit status of the attack scripts when no hierarchy let
// the process move; the command has not been run then.
const AttackFailed = 99

// Attacker returns the configuration with what the attacks need: the right to
// mount. The seccomp profile follows the capability by itself; AppArmor's has
// to be switched off by name, which is ignored on machines without AppArmor.
func Attacker(cfg RunConfig) RunConfig {
	cfg.CapAdd = append(slices.Clone(cfg.CapAdd), "SYS_ADMIN")
	cfg.Args = append(slices.Clone(cfg.Args), "--security-opt=apparmor=unconfined")
	return cfg
}

// AttackArgv returns the command line, for Container.Exec, that runs an attack
// script against the victim and then the command.
func AttackArgv(script, victimID string, command ...string) []string {
	return append([]string{"sh", "-c", script, "sh", victimID}, command...)
}
