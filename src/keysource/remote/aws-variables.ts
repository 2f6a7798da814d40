import { endpointProblem } from './endpoint.ts'
import { SourceError } from './source-error.ts'

/** What the AWS SDK reads of the environment, of which nothing is secret; a test holds it against the SDK's own text. */
export const awsVariables = [
  'AWS_ACCESS_KEY_ID',
  'AWS_ACCOUNT_ID',
  'AWS_ACCOUNT_ID_ENDPOINT_MODE',
  'AWS_AUTH_SCHEME_PREFERENCE',
  'AWS_CONFIG_FILE',
  'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
  'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
  'AWS_CREDENTIAL_EXPIRATION',
  'AWS_CREDENTIAL_SCOPE',
  'AWS_DEFAULTS_MODE',
  'AWS_DEFAULT_REGION',
  'AWS_DISABLE_CLOCK_SKEW_CORRECTION',
  'AWS_EC2_METADATA_DISABLED',
  'AWS_EC2_METADATA_SERVICE_ENDPOINT',
  'AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE',
  'AWS_EC2_METADATA_V1_DISABLED',
  'AWS_ENDPOINT_URL',
  'AWS_ENDPOINT_URL_KMS',
  'AWS_ENDPOINT_URL_SIGNIN',
  'AWS_ENDPOINT_URL_SSO',
  'AWS_ENDPOINT_URL_SSO_OIDC',
  'AWS_ENDPOINT_URL_STS',
  'AWS_IGNORE_CONFIGURED_ENDPOINT_URLS',
  'AWS_LOGIN_CACHE_DIRECTORY',
  'AWS_PROFILE',
  'AWS_REGION',
  'AWS_ROLE_ARN',
  'AWS_ROLE_SESSION_NAME',
  'AWS_SDK_UA_APP_ID',
  'AWS_SHARED_CREDENTIALS_FILE',
  'AWS_SIGV4A_SIGNING_REGION_SET',
  'AWS_USE_DUALSTACK_ENDPOINT',
  'AWS_USE_FIPS_ENDPOINT',
  'AWS_WEB_IDENTITY_TOKEN_FILE',
] as const

/** Those with which the key can be had. */
export const awsSecretVariables = [
  'AWS_SECRET_ACCESS_KEY',
  'AWS_SESSION_TOKEN',
  'AWS_CONTAINER_AUTHORIZATION_TOKEN',
] as const

/** Decrypt takes no more. */
const ciphertextBytesMax = 6_144

/** The bytes of ENCRYPTED_MASTER_KEY, or null where it is not base64 of something KMS takes. Line breaks may be in it. */
export function decodeCiphertext(text: string): Buffer | null {
  const digits = text.replace(/\s+/g, '')
  const bytes = /^[A-Za-z0-9+/]+={0,2}$/.test(digits) ? Buffer.from(digits, 'base64') : Buffer.alloc(0)
  const whole = bytes.toString('base64').replace(/=+$/, '') === digits.replace(/=+$/, '')
  return whole && bytes.length > 0 && bytes.length <= ciphertextBytesMax ? bytes : null
}

/** What is wrong with the variables as they are; null where nothing is. Profiles are looked at when they are used. */
export function awsProblem(env: Readonly<Record<string, string | undefined>>): SourceError | null {
  for (const name of awsVariables) {
    const value = env[name]
    if (!name.startsWith('AWS_ENDPOINT_URL') || value === undefined || value === '') continue
    const problem = endpointProblem(value)
    if (problem !== null) {
      return new SourceError(`${name} ${problem}`, 'set it to an https address, or unset it', {
        exit: 'config',
      })
    }
  }
  return null
}
