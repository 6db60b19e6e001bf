/**
 * What a task's requests to its model carry, for those who take it in.
 *
 * @module
 */

export { keyHeaders, ModelCredentials } from "../network/model_credentials.ts";
