package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// genDate is fixed so that generated pages change only with their text.
var genDate = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)

// newGenCommand writes what packagers install beside the binary.
func newGenCommand() *cobra.Command {
	return &cobra.Command{
		Use: "gen DIR", Short: "Write man pages and shell completions", Hidden: true, Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error { return generate(cmd.Root(), args[0]) },
	}
}

func generate(root *cobra.Command, dir string) error {
	man, comp := filepath.Join(dir, "man"), filepath.Join(dir, "completions")
	for _, d := range []string{man, comp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("generate: %w", err)
		}
	}
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Title: "CLAUDEFS", Section: "1", Source: "claudefs", Date: &genDate}
	if err := doc.GenManTree(root, header, man); err != nil {
		return fmt.Errorf("generate man pages: %w", err)
	}
	for file, write := range map[string]func(string) error{
		"claudefs.bash": func(f string) error { return root.GenBashCompletionFileV2(f, true) },
		"_claudefs":     root.GenZshCompletionFile,
		"claudefs.fish": func(f string) error { return root.GenFishCompletionFile(f, true) },
	} {
		if err := write(filepath.Join(comp, file)); err != nil {
			return fmt.Errorf("generate completions: %w", err)
		}
	}
	return nil
}
