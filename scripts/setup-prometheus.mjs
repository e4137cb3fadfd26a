// Puts Prometheus and promtool into .tools/prometheus for the tests of alert rules and dashboard, out of Debian's or Ubuntu's own
// package, without installing it: nothing is started, and no root is needed. Entry: findPrometheus(), setupPrometheus(). A second
// run finds nothing to do. Where the package cannot be had it says so and ends well; with CI=true that is a failure.

import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const tools = join(dirname(dirname(fileURLToPath(import.meta.url))), '.tools')
const home = join(tools, 'prometheus')

/** @param {string} text */
const say = (text) => process.stderr.write(`setup-prometheus: ${text}\n`)

/** @returns {{prometheus: string, promtool: string} | null} paths, of .tools or of an installed Prometheus 2.42 or later */
export function findPrometheus() {
  for (const folder of [join(home, 'usr', 'bin'), '/usr/bin', '/usr/local/bin']) {
    const found = { prometheus: join(folder, 'prometheus'), promtool: join(folder, 'promtool') }
    if (fs.existsSync(found.prometheus) && fs.existsSync(found.promtool)) return found
  }
  return null
}

/** @returns {boolean} whether Prometheus is there */
export function setupPrometheus() {
  if (findPrometheus() !== null) return true
  const unfinished = `${home}.${process.pid}`
  fs.mkdirSync(unfinished, { recursive: true })
  try {
    say('fetching the Debian package prometheus into .tools/prometheus')
    // Without package lists there is nothing to fetch by; reading them anew takes root and some seconds.
    const steps = ['apt-get -qq download prometheus || { apt-get -qq update && apt-get -qq download prometheus; }']
    steps.push('dpkg-deb -x prometheus_*.deb .')
    for (const step of steps) {
      const run = spawnSync('sh', ['-c', step], { cwd: unfinished, encoding: 'utf8' })
      if (run.status !== 0) {
        say(`not to be had: ${(run.stderr || run.error?.message || '').trim().split('\n').at(-1)}`)
        return false
      }
    }
    if (!fs.existsSync(home)) fs.renameSync(unfinished, home)
  } finally {
    fs.rmSync(unfinished, { recursive: true, force: true })
  }
  return findPrometheus() !== null
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const there = setupPrometheus()
  if (!there) say('the tests that need Prometheus will be skipped')
  if (!there && process.env['CI'] === 'true') process.exitCode = 1
}
