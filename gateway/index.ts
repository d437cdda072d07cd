export { startGateway, type GatewayOptions, type RunningGateway } from './service.ts';
