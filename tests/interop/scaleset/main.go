// A listener of a few lines on the public client of runner scale sets. It prints one JSON object a line for everything
// that happens to it, and ends when its client gives up.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/actions/scaleset"
	"github.com/actions/scaleset/listener"
)

func tell(what string, fields map[string]any) {
	fields["event"] = what
	_ = json.NewEncoder(os.Stdout).Encode(fields)
}

type scaler struct{}

func (scaler) HandleJobStarted(_ context.Context, job *scaleset.JobStarted) error {
	tell("started", map[string]any{"job": job.JobDisplayName, "runner": job.RunnerName})
	return nil
}

func (scaler) HandleJobCompleted(_ context.Context, job *scaleset.JobCompleted) error {
	tell("completed", map[string]any{"job": job.JobDisplayName, "result": job.Result})
	return nil
}

func (scaler) HandleDesiredRunnerCount(_ context.Context, count int) (int, error) {
	tell("desired", map[string]any{"count": count})
	return count, nil
}

func run(ctx context.Context, url, token, name string) error {
	// The retry handler tells of every request that it sends.
	logger := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	client, err := scaleset.NewClientWithPersonalAccessToken(
		scaleset.NewClientWithPersonalAccessTokenConfig{GitHubConfigURL: url, PersonalAccessToken: token},
		scaleset.WithLogger(logger),
	)
	if err != nil {
		return err
	}
	set, err := client.GetRunnerScaleSet(ctx, 1, name)
	if err != nil {
		return err
	}
	config, err := client.GenerateJitRunnerConfig(ctx, &scaleset.RunnerScaleSetJitRunnerSetting{Name: "runner-1"}, set.ID)
	if err == nil {
		tell("registered", map[string]any{"runner": config.Runner.Name})
		err = client.RemoveRunner(ctx, int64(config.Runner.ID))
	}
	if err != nil {
		return err
	}
	session, err := client.MessageSessionClient(ctx, set.ID, "listener-of-"+name)
	if err != nil {
		return err
	}
	defer func() {
		if err := session.Close(context.Background()); err != nil {
			tell("close", map[string]any{"error": err.Error()})
		}
	}()
	tell("session", map[string]any{"id": session.Session().SessionID, "owner": session.Session().OwnerName})
	listening, err := listener.New(session, listener.Config{ScaleSetID: set.ID, MaxRunners: 3, Logger: logger})
	if err != nil {
		return err
	}
	return listening.Run(ctx, scaler{})
}

func main() {
	url := flag.String("url", "", "the organisation")
	token := flag.String("token", "", "a personal access token")
	name := flag.String("name", "", "the scale set")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *url, *token, *name); err != nil {
		tell("error", map[string]any{"error": err.Error()})
		stop()
		os.Exit(1)
	}
}
