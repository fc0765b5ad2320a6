// SPDX-License-Identifier: Apache-2.0
import CSutureTypes
import Suture

/// A suture_train_config, its zeros replaced by the defaults. Ranges are checked where it is used.
func trainingOptions(_ pointer: UnsafePointer<suture_train_config>?) throws -> TrainingOptions {
    let config = try config(pointer, "config", defaults: suture_train_config())
    var options = TrainingOptions()
    if config.batch_size != 0 { options.batchSize = Int(config.batch_size) }
    if config.lr != 0 { options.learningRate = config.lr }
    switch config.lr_scheduler {
    case SUTURE_LR_CONSTANT, suture_lr_scheduler(rawValue: 0): options.learningRateScheduler = .constant
    case SUTURE_LR_LINEAR: options.learningRateScheduler = .linear
    case SUTURE_LR_COSINE: options.learningRateScheduler = .cosine
    default:
        throw SutureError.invalidArgument(
            "config->lr_scheduler is \(config.lr_scheduler.rawValue), expected SUTURE_LR_CONSTANT, _LINEAR or _COSINE")
    }
    options.learningRateWarmUpSteps = Int(config.lr_warm_up_steps)
    options.learningRateEnd = config.lr_end
    options.totalSteps = Int(config.total_steps)
    if config.beta1 != 0 { options.beta1 = config.beta1 }
    if config.beta2 != 0 { options.beta2 = config.beta2 }
    if config.epsilon != 0 { options.epsilon = config.epsilon }
    if config.max_grad_norm != 0 { options.maxGradientNorm = config.max_grad_norm }
    switch config.decoder_norm {
    case SUTURE_DECODER_NORM_UNIT: options.decoderNorm = .unit
    case SUTURE_DECODER_NORM_FREE: options.decoderNorm = .free
    case SUTURE_DECODER_NORM_UNIT_UNPROJECTED, suture_decoder_norm(rawValue: 0): options.decoderNorm = .unitUnprojected
    default:
        throw SutureError.invalidArgument(
            "config->decoder_norm is \(config.decoder_norm.rawValue), expected SUTURE_DECODER_NORM_UNIT, "
                + "_UNIT_UNPROJECTED or _FREE")
    }
    switch config.b_dec_init {
    case SUTURE_B_DEC_KEEP, suture_b_dec_init(rawValue: 0): options.decoderBiasStart = .keep
    case SUTURE_B_DEC_ZERO: options.decoderBiasStart = .zero
    case SUTURE_B_DEC_MEAN: options.decoderBiasStart = .mean
    case SUTURE_B_DEC_GEOMETRIC_MEDIAN: options.decoderBiasStart = .geometricMedian
    default:
        throw SutureError.invalidArgument(
            "config->b_dec_init is \(config.b_dec_init.rawValue), expected SUTURE_B_DEC_KEEP, _ZERO, _MEAN or "
                + "_GEOMETRIC_MEDIAN")
    }
    switch config.normalize_activations {
    case SUTURE_NORMALIZE_NONE, suture_normalize_activations(rawValue: 0): options.normalizeActivations = .none
    case SUTURE_NORMALIZE_EXPECTED_AVERAGE_ONLY_IN: options.normalizeActivations = .expectedAverageOnlyIn
    default:
        throw SutureError.invalidArgument(
            "config->normalize_activations is \(config.normalize_activations.rawValue), expected "
                + "SUTURE_NORMALIZE_NONE or _EXPECTED_AVERAGE_ONLY_IN")
    }
    if config.l0_coefficient != 0 { options.l0Coefficient = config.l0_coefficient }
    if config.l1_coefficient != 0 { options.l1Coefficient = config.l1_coefficient }
    if config.bandwidth != 0 { options.bandwidth = config.bandwidth }
    options.sparsityWarmUpSteps = Int(config.sparsity_warm_up_steps)
    if config.aux_loss_coefficient != 0 { options.auxLossCoefficient = config.aux_loss_coefficient }
    if config.aux_k != 0 { options.auxK = Int(config.aux_k) }
    if config.dead_feature_window != 0 { options.deadFeatureWindow = Int(config.dead_feature_window) }
    options.seed = config.seed
    if config.pull != 0 { options.pull = config.pull }
    return options
}
