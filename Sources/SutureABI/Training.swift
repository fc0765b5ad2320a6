// SPDX-License-Identifier: Apache-2.0
// Section: Training
import CSutureTypes
import Suture

final class TrainerBox: HandleBox {
    let trainer: Trainer
    init(_ trainer: Trainer) { self.trainer = trainer }
}

func trainer(_ handle: UnsafePointer<suture_trainer>?, _ name: String = "trainer") throws -> Trainer {
    try object(handle, name, as: TrainerBox.self).trainer
}

func trainer(_ handle: UnsafeMutablePointer<suture_trainer>?, _ name: String = "trainer") throws -> Trainer {
    try trainer(handle.map { UnsafePointer($0) }, name)
}

func tokenCount(_ tokens: UInt64) throws -> Int {
    guard let count = Int(exactly: tokens) else {
        throw SutureError.invalidArgument("tokens is \(tokens), expected at most \(Int.max)")
    }
    return count
}

func write(_ metrics: TrainingMetrics, to out: UnsafeMutablePointer<suture_train_metrics>?) throws {
    guard let out else { return }
    var report = suture_train_metrics()
    report.steps = UInt64(metrics.steps)
    report.tokens = UInt64(metrics.tokens)
    report.loss = metrics.loss
    report.sparsity_loss = metrics.sparsityLoss
    report.aux_loss = metrics.auxLoss
    report.explained_variance = metrics.explainedVariance
    report.l0 = metrics.l0
    report.dead = Int64(metrics.dead)
    report.lr = metrics.learningRate
    report.seconds = metrics.seconds
    report.explained_variance_average = metrics.explainedVarianceAverage
    report.flops = metrics.flops
    report.flops_executed = metrics.flopsExecuted
    report.pull_loss = metrics.pullLoss
    try writeReport(report, to: out, "out")
}

/// Begins the training of a SAE, which is copied. The loss is the mean over tokens of |x - x_hat|^2,
/// summed over coordinates, and for TopK nothing else; gradients flow through the active latents only.
/// Adam moves all weights, those of latents that do not fire too (their moments decay), and after
/// every step each decoder row is divided by its norm.
///
/// BatchTopK makes the k N largest activations of N tokens active, and needs a SAE with k; its threshold
/// becomes the moving average, by 0.01 a step, of the smallest of them. JumpReLU adds l0_coefficient times
/// the mean number of active latents and trains its thresholds too, by straight-through estimators of width
/// bandwidth, keeping them at 0 or above; ReLU adds l1_coefficient times the mean sum of activations. TopK
/// and BatchTopK can have an auxiliary loss for latents that have not fired for dead_feature_window tokens:
/// aux_loss_coefficient min(dead / aux_k, 1) times the squared distance between what their aux_k largest
/// pre-activations decode to and what the active latents leave. These are the losses of SAELens' training
/// classes.
///
/// But for SUTURE_DECODER_NORM_FREE decoder rows are brought to unit norm at once. The norm n of a row
/// goes into the encoder, latents that compete stay ranked by what they had been ranked by, and the SAE
/// that is given back has the norms n again: training begins from the function that sae has.
/// Rows within 1e-6 of unit norm stay as they are.
///
/// config (not NULL; a zero field stands for its default) gives the tokens a step and Adam's
/// settings: batch_size 1 to 16777216, lr above 0 to 1e6, lr_end 0 to 1e6, beta1 and beta2 from 0 to
/// below 1, epsilon 1e-20 to 1. Memory: 12 bytes for each of the 2 d_in d_sae weights (value and moments),
/// and with each batch 8 d_in + 24 k bytes a token; no (tokens, d_sae) matrix. k is the number of active
/// latents: with JumpReLU and ReLU memory grows with it, and with a random start it is half of d_sae.
///
/// *out is the caller's, to be released with suture_trainer_destroy(). A trainer is for one call at a
/// time: calls during another one, as from its progress callback, get
/// SUTURE_ERROR_INVALID_ARGUMENT.
///
/// Errors: SUTURE_ERROR_UNSUPPORTED for SUTURE_GATED, for a normalization and for
/// rescale_by_decoder_norm without SUTURE_DECODER_NORM_FREE (suture_sae_fold() first);
/// SUTURE_ERROR_INVALID_ARGUMENT for a setting out of range or without use for the architecture, a weight that is not finite, a decoder row of zeros;
/// SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_trainer_create(
    _ sae: UnsafePointer<suture_sae>?, _ config: UnsafePointer<suture_train_config>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_trainer>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        let sae = try object(sae, "sae", as: SAEBox.self).sae
        let trainer = try Trainer(sae, options: trainingOptions(config))
        out.pointee = makeHandle(TrainerBox(trainer), as: suture_trainer.self)
    }
}

/// One step on exactly the rows of x (N, d_in), N >= 1, of any element type; batch_size plays no
/// part. The same calls give the same bits for any number of threads.
///
/// out (NULL for none; set out->struct_size first) gets the loss, explained variance (NaN if all rows
/// are equal) and l0 of the batch before the update, dead latents and all steps and tokens after it,
/// the learning rate of the step and the seconds it took.
///
/// On an error the trainer is as before the call, but for a cancel that comes while the weights
/// change: then the step is finished first, and counts. That part takes about a quarter of a step.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for another width, no rows, or a value that is not finite as
/// float32 (the message names row and column); SUTURE_ERROR_NUMERICAL if the loss or a gradient is
/// not finite (training diverged); SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_trainer_step(
    _ trainer: UnsafeMutablePointer<suture_trainer>?, _ x: UnsafePointer<suture_matrix>?,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<suture_train_metrics>?
) -> suture_status {
    boundary {
        let trainer = try SutureABI.trainer(trainer)
        let x = try matrix(x, "x", cols: (trainer.dIn, "d_in"))
        if let out { try structSize(out, "out", of: suture_train_metrics.self) }
        try write(trainer.step(x, progress: SutureABI.progress(progress)), to: out)
    }
}

/// Steps of batch_size tokens until at least `tokens` more are trained on, so tokens / batch_size
/// steps, rounded up. Batches are drawn in random order from all rows of all shard_count matrices
/// of `shards` (each (N, d_in), N >= 1, of any element type), which are read where they are: memory
/// that maps a file will do.
///
/// Every row is seen once an epoch, in an order that depends on config->seed, the epoch, d_in and the
/// number of rows in all; nothing is stored for it. Blocks of consecutive rows (256 KB as float32, at
/// least 32 rows) come in random order, and rows are mixed within windows of about 65,536: what maps
/// a file larger than memory is read in runs, once an epoch. A batch that an epoch has too few rows
/// left for is completed with the first of the next epoch. A later call goes on where this one stopped;
/// if it brings another number of rows in all, it begins a new epoch on them.
///
/// out (set out->struct_size first) gets loss, explained variance and l0 as means over the steps of this
/// call and their seconds (with those of calls before it that had a NULL here, or ended in an error
/// after some steps), and dead latents, learning rate and all steps and tokens as
/// they are at the end. Progress counts the tokens of this call.
///
/// On an error the steps before the failing one stand, the failing one is not applied, and the order
/// of the tokens goes on with its batch; cancelling is as for suture_trainer_step(). *out is then
/// not written.
///
/// Errors: as suture_trainer_step(), where a value that is not finite is named by shard, row and
/// column; also SUTURE_ERROR_INVALID_ARGUMENT if shard_count is below 1 or tokens is 0.
@c
public func suture_trainer_run(
    _ trainer: UnsafeMutablePointer<suture_trainer>?, _ shards: UnsafePointer<suture_matrix>?, _ shard_count: Int64,
    _ tokens: UInt64, _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<suture_train_metrics>?
) -> suture_status {
    boundary {
        let trainer = try SutureABI.trainer(trainer)
        let count = try tokenCount(tokens)
        let views = try matrices(shards, shard_count, cols: (trainer.dIn, "d_in"))
        if let out { try structSize(out, "out", of: suture_train_metrics.self) }
        let metrics = try Trainer.run(
            [trainer], views, tokens: count, taking: out != nil, progress: SutureABI.progress(progress))
        for value in metrics { try write(value, to: out) }
    }
}

/// The gradients of the loss on the rows of x (N, d_in), N >= 1, without a step, to one float32 array:
/// W_enc (d_in, d_sae), b_enc (d_sae), W_dec (d_sae, d_in) and b_dec (d_in), row by row and one after
/// the other, and for JumpReLU threshold (d_sae) after them, so count = 2 d_in d_sae + d_sae + d_in
/// elements, for JumpReLU d_sae more. They are those of the mean over these
/// tokens and of the weights as they are: neither clipped nor projected. With
/// suture_trainer_apply() this makes a step in two halves, for gradients that are averaged over several
/// processes in between.
///
/// firings (NULL for none) gets the tokens on which each latent was active, (d_sae). out (NULL for none;
/// set out->struct_size first) gets the loss, explained variance and l0 of the batch, the seconds this
/// took, and else what the last step left.
///
/// Errors: as suture_trainer_step(); SUTURE_ERROR_INVALID_ARGUMENT for another count, and if b_dec_init
/// or normalize_activations ask for something that the first step would take from the activations.
@c
public func suture_trainer_gradients(
    _ trainer: UnsafePointer<suture_trainer>?, _ x: UnsafePointer<suture_matrix>?,
    _ progress: UnsafePointer<suture_progress>?, _ gradients: UnsafeMutablePointer<Float>?, _ count: Int64,
    _ firings: UnsafeMutablePointer<Int64>?, _ out: UnsafeMutablePointer<suture_train_metrics>?
) -> suture_status {
    boundary {
        let trainer = try SutureABI.trainer(trainer)
        let x = try matrix(x, "x", cols: (trainer.dIn, "d_in"))
        let gradients = try required(gradients, "gradients")
        try checkGradients(UnsafePointer(gradients), count, of: trainer)
        if let out { try structSize(out, "out", of: suture_train_metrics.self) }
        try write(
            trainer.gradients(x, into: gradients, firings: firings, progress: SutureABI.progress(progress)), to: out)
    }
}

/// Applies the gradients of a step, reduced over several batches, as suture_trainer_step() would its own:
/// clipping, projection, Adam, decoder norms, learning rate and counters. gradients has the order and
/// count of suture_trainer_gradients(), of the mean over all `tokens` (1 to 2^48) of the step: where
/// batches are of one size, the mean of theirs.
///
/// firings ((d_sae), each >= 0), added up over the batches, tells which latents were active, for the count
/// of dead ones; NULL takes for active what has a gradient of b_enc other than 0, which with
/// aux_loss_coefficient dead ones have too. BatchTopK's threshold
/// stays: it is of a batch that is not known here. After
/// suture_trainer_gradients() on the rows of a step the weights are those that
/// suture_trainer_step() leaves, bit for bit.
///
/// out (NULL for none; set out->struct_size first) gets all steps and tokens, dead latents, learning rate
/// and seconds; the loss, explained variance and l0 are NaN.
///
/// On an error the trainer is as before the call, but for a cancel as in suture_trainer_step().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for another count, tokens out of range, a gradient that is not
/// finite or 1e18 and more, a negative number of firings, and before a first step that takes something
/// from the activations (b_dec_init, normalize_activations); SUTURE_ERROR_CANCELLED;
/// SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_trainer_apply(
    _ trainer: UnsafeMutablePointer<suture_trainer>?, _ gradients: UnsafePointer<Float>?, _ count: Int64,
    _ tokens: UInt64, _ firings: UnsafePointer<Int64>?, _ progress: UnsafePointer<suture_progress>?,
    _ out: UnsafeMutablePointer<suture_train_metrics>?
) -> suture_status {
    boundary {
        let trainer = try SutureABI.trainer(trainer)
        let gradients = try required(gradients, "gradients")
        try checkGradients(gradients, count, of: trainer)
        if let out { try structSize(out, "out", of: suture_train_metrics.self) }
        guard let tokens = Int(exactly: tokens) else {
            throw SutureError.invalidArgument("tokens is \(tokens), expected 1 to 2^48")
        }
        try write(
            trainer.apply(gradients, tokens: tokens, firings: firings, progress: SutureABI.progress(progress)), to: out)
    }
}

func checkGradients(_ gradients: UnsafePointer<Float>, _ count: Int64, of trainer: Trainer) throws {
    let expected = trainer.gradientLayout.count
    guard count == Int64(expected) else {
        throw SutureError.invalidArgument(
            "count is \(count), expected 2 d_in d_sae + d_sae + d_in (and d_sae for JumpReLU) = \(expected) gradients")
    }
    guard UInt(bitPattern: gradients) % 4 == 0 else {
        throw SutureError.invalidArgument("gradients is not aligned to 4 bytes")
    }
}

/// A copy of the SAE as it is now, with the metadata of the one that training began with.
///
/// *out is the caller's, to be released with suture_sae_destroy(); it does not change with further
/// training.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT, SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_trainer_sae(
    _ trainer: UnsafePointer<suture_trainer>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_sae>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        let box = try SAEBox(SutureABI.trainer(trainer).sae())
        out.pointee = makeHandle(box, as: suture_sae.self)
    }
}

/// Releases a trainer. NULL is allowed. SAEs taken from it stay.
@c
public func suture_trainer_destroy(_ trainer: UnsafeMutablePointer<suture_trainer>?) {
    destroyHandle(trainer)
}
