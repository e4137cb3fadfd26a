// What children inherit of the environment: everything that drivers and libraries may want, and nothing that is named like a
// secret, since hostile files are read there. Entry: childEnvironment.

/** Names of secrets as operators and platforms give them: TENSORPRESS_API_KEYS, GITHUB_TOKEN, AWS_SECRET_ACCESS_KEY, PGPASSWORD. */
const SECRET = /(KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|CREDENTIALS?)$|^AWS_/i

export function childEnvironment(extra: NodeJS.ProcessEnv = {}, inherited = process.env): NodeJS.ProcessEnv {
  // A child of a test must not report to the test runner.
  const { NODE_TEST_CONTEXT: _, ...environment } = inherited
  return { ...Object.fromEntries(Object.entries(environment).filter(([name]) => !SECRET.test(name))), ...extra }
}
