// A process that validates a model that never ends, for the test that kills it: its inference child must not outlive it.
// Prints the pid of the child.

import { validateArtifact } from '../../src/validate/validate-artifact.ts'
import { validateSpec } from './validate-spec.ts'

const [path = ''] = process.argv.slice(2)
let told = false
await validateArtifact(validateSpec(path, path), {
  onChild: (pid, rssBytes) => {
    // Large enough that onnxruntime is loaded and the endless run may have begun.
    if (!told && rssBytes > 60e6) console.log(pid)
    told ||= rssBytes > 60e6
  },
})
