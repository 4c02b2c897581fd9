//! Where the real action and the repaired download differ.
//!
//! `upstream` is v3.3.0 of the action, the last one that downloads with curl, as the action of the incident did. What
//! only other versions have is there as well: v2 to v3.2.0, and v4, which downloads with `@actions/tool-cache`.

use crate::choices::choices;

choices! {
    system "flox";

    /// What is done when the transfer of a file fails.
    transfer: Transfer {
        /// `curl --fail --retry 3 --retry-all-errors`: again after 1, 2 and 4 s.
        upstream CurlRetryAllErrors,
        /// Again until the whole budget is used up, with a pause that grows only while nothing gets through.
        hardened Patient;
        /// `curl --retry 3`, as most scripts have it: a reset stream and a short body are no reason to retry.
        formerly CurlRetry
            because "curl --retry does not cover exit code 92, so no retry ever happens" from "flox/flox#2916; curl src/tool_operate.c";
        /// `curl --fail` (v3.1.0 and v3.2.0): once.
        formerly CurlOnce
            because "one failure of the network fails the job" from "tailscale/github-action#158, PR#168";
        /// `curl` without `--fail` (v2): once, and an error page is saved as the file.
        formerly CurlWithoutFail
            because "an error page is saved as the tarball" from "tailscale/github-action#88, #89, #97";
        /// `downloadTool` of `@actions/tool-cache` (v4): three attempts, 10 to 20 s apart.
        formerly ToolCache
            because "three attempts within a minute are the whole patience" from "actions/toolkit tool-cache.ts, retry-helper.ts"
    }
    because "four attempts within seconds are the whole patience" from "tailscale/github-action#198";

    /// Where an attempt begins when an earlier one left a part.
    resume: Resume {
        /// At the first byte.
        upstream FromZero,
        /// Where the part ends, if the server says that it is still the same object.
        hardened IfRange;
        /// Where the part ends, whatever it is (`curl -C -`): curl sends no If-Range, and takes a part that has its full
        /// length for whole. Nothing throws a part away, so what was put together wrongly stays.
        formerly Unvalidated
            because "a part is continued with the bytes of another object" from "curl src/tool_operate.c, lib/http.c"
    }
    because "a file that takes longer than the server's time limit never arrives" from "flox/flox#2916";

    /// The version of HTTP that is spoken.
    protocol: Protocol {
        /// HTTP/2, whatever comes of it.
        upstream Http2Alone,
        /// HTTP/2, and the other one after each transfer that broke.
        hardened FallsBack,
    }
    because "a server whose HTTP/2 streams break is never asked over HTTP/1.1" from "tailscale/github-action#198"
        if "the server resets HTTP/2 streams at once and lets HTTP/1.1 through";

    /// Where the file is asked for.
    source: Source {
        /// At its publisher alone.
        upstream PublisherAlone,
        /// At an archive that knows files by their digest as well, after the publisher failed twice.
        hardened ArchiveToo,
    }
    because "a publisher that cannot deliver is the only source" from "flox/flox@dfdcf4aac"
        if "the publisher ignores ranges and cuts every answer off";

    /// What is done about a file whose digest is not the published one.
    on_mismatch: OnMismatch {
        /// The job fails.
        upstream Fails,
        /// The digest is asked for again and, if need be, the file.
        hardened FetchesAgain,
    }
    because "a digest mismatch is not retried" from "main.ts installTailscaleLinux";

    /// What ends an attempt through which nothing comes any more.
    stall: Stall {
        /// `--max-time 300`, over the whole attempt.
        upstream MaxTime,
        /// 30 s without a byte.
        hardened Guard;
        /// Nothing, once the answer's head is there (`stream.pipeline`).
        formerly Unguarded
            because "a body that stops coming holds the job for ever" from "actions/toolkit tool-cache.ts"
    }
    because "a body that stops coming holds the job for five minutes" from "tailscale/github-action action.yml v3";

    /// Under which name bytes arrive.
    placement: Placement {
        /// Under the name that others look for.
        upstream InPlace,
        /// Under another one; the whole file gets its name in one step.
        hardened Renamed,
    }
    because "a part is visible under the final name" from "tailscale/github-action v3 action.yml; main.ts";

    /// The name of what is being fetched, until it is there.
    destination: Destination {
        /// One for all jobs of a machine, `~/.cache/tailscale.tgz`.
        upstream Shared,
        /// One for each job.
        hardened PerJob;
        /// One for all, and it must not be there yet.
        formerly SharedAndNew
            because "what a killed job left behind fails all later ones" from "tailscale/github-action#259, #294"
    }
    because "two jobs of one machine write into the same file" from "tailscale/github-action main.ts tarDest, PR#305";

    /// What is taken from the cache.
    cache: Cache {
        /// What is stored under the version and the digest, as it is (v3.2.0 on).
        upstream Unverified,
        /// What is stored under the version and the digest, if it has the digest.
        hardened Verified;
        /// What is stored under the version, as it is (v4).
        formerly ByVersionAlone
            because "what was cached of a version once is used for ever" from "main.ts generateCacheKey"
    }
    because "what is restored from the cache is not checked" from "main.ts installCachedBinaries";

    /// How the version list is read.
    lookup: Lookup {
        /// `curl -s` without `--fail`, once.
        upstream Unchecked,
        /// As a transfer: again after a failure, or after an answer that is no version list.
        hardened Checked,
    }
    because "one error page in place of the version list fails the job" from "main.ts resolveVersion";
}
