// `@copilotkit/aimock`: every provider's surface, with the answers of aimock.json.
// See processes.py.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ port: 0, host: "127.0.0.1" });
mock.loadFixtureFile(new URL("aimock.json", import.meta.url).pathname);
await mock.start();
console.log(mock.url);
process.stdin.resume().on("end", () => process.exit(0));
