// Downloads a file as a setup action does: node download.mjs URL DESTINATION. Pauses between attempts are left out.
import tc from "@actions/tool-cache";

global["TEST_DOWNLOAD_TOOL_RETRY_MIN_SECONDS"] = 0;
global["TEST_DOWNLOAD_TOOL_RETRY_MAX_SECONDS"] = 0;

const [url, destination] = process.argv.slice(2);
try {
  console.log(`done: ${await tc.downloadTool(url, destination)}`);
} catch (error) {
  console.log(`failed: ${error.message}`);
  process.exitCode = 1;
}
