package main

import (
	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/cmd/relay"
)

// serverVariable has the URL of the server that the commands below batch talk to.
const serverVariable = "DEEPFN_SERVER"

// batchCommand is batch predictions: in this process, and on a server.
func batchCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "batch",
		Short: "Predicts on all rows, or all files, of an input: here, or on a server",
		Long: "Predicts on all rows, or all files, of an input, and writes the answers beside each other: NDJSON, CSV,\n" +
			"Parquet, tar, zip or a folder of files, on this machine or in S3, Google Cloud Storage or Azure.\n" +
			"'deepfn batch run' does it here and goes on where it was when it is started again; the other commands\n" +
			"have a server do it: a job that outlives the server, too.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(batchRunCommand(s))
	api := &batchAPI{settings: s}
	cmd.AddCommand(batchSubmitCommand(api), batchListCommand(api), batchStatusCommand(api),
		batchWatchCommand(api), batchCancelCommand(api), batchLogsCommand(api))
	return cmd
}

// batchServerFlag adds the flag of the server.
func (a *batchAPI) batchServerFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&a.server, "server", "", "URL of the server ("+serverVariable+"; default http://"+relay.DefaultListen+")")
	return cmd
}

func batchSubmitCommand(api *batchAPI) *cobra.Command {
	var in batchFlags
	watch := false
	cmd := &cobra.Command{
		Use:   "submit MODEL --input URL --output URL/",
		Short: "Has a server begin a batch prediction, and prints its id",
		Long: "Has a server begin a batch prediction, and prints its id. The server reads the input and writes the\n" +
			"output itself, so it has to be allowed to: 'deepfn serve --allow-url s3://bucket/'.\n\n" + exitHelp,
		Example: "  deepfn batch submit digits --input s3://in/rows.csv --output s3://out/run-1/ --watch",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return api.submit(cmd, args[0], &in, watch)
		},
	}
	in.add(cmd.Flags())
	in.addServers(cmd.Flags())
	cmd.Flags().BoolVar(&watch, "watch", false, "show how far it is until it ends")
	return api.batchServerFlag(cmd)
}

func batchListCommand(api *batchAPI) *cobra.Command {
	return api.batchServerFlag(&cobra.Command{
		Use: "list [MODEL]", Short: "Lists the batch predictions of a server", Long: "Lists the batch predictions of a server, the oldest first.\n\n" + exitHelp,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return api.list(cmd, args) },
	})
}

func batchStatusCommand(api *batchAPI) *cobra.Command {
	return api.batchServerFlag(&cobra.Command{
		Use: "status ID", Short: "Prints what a server knows of a batch prediction", Long: "Prints what a server knows of a batch prediction, JSON. ID may be MODEL/ID.\n\n" + exitHelp,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return api.status(cmd, args[0]) },
	})
}

func batchWatchCommand(api *batchAPI) *cobra.Command {
	return api.batchServerFlag(&cobra.Command{
		Use: "watch ID", Short: "Shows how far a batch prediction is until it ends", Long: "Shows how far a batch prediction is until it ends, and prints its result. It goes on without being watched.\n\n" + exitHelp,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return api.watch(cmd, args[0]) },
	})
}

func batchCancelCommand(api *batchAPI) *cobra.Command {
	return api.batchServerFlag(&cobra.Command{
		Use: "cancel ID", Short: "Ends a batch prediction and removes its record", Long: "Ends a batch prediction and removes its record. What it has written stays, and the same batch goes on there.\n\n" + exitHelp,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return api.cancel(cmd, args[0]) },
	})
}

func batchLogsCommand(api *batchAPI) *cobra.Command {
	return api.batchServerFlag(&cobra.Command{
		Use: "logs ID", Short: "Prints what a batch prediction said", Long: "Prints what a batch prediction said.\n\n" + exitHelp,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return api.logs(cmd, args[0]) },
	})
}
