// SPDX-License-Identifier: Apache-2.0
// Section: Training: latents that stay what they are
// Training of a carried SAE with a pull towards the codes of the SAE that it was carried from, on the same
// tokens in its own model: config->pull gives the loss another term, pull times the mean over tokens of the sum
// over latents of (f - t)^2, where t are the activations there, and both are multiplied by the norm that
// the latent's decoder row began with. Active latents have its gradient. One that should be active and is not gets
// that of its pre-activation, as far as this is below t.
import CSutureTypes
import Suture

private func like(_ codes: UnsafePointer<suture_codes>?) throws -> SparseCodes { try SutureABI.codes(codes, "like") }

/// suture_trainer_step() with a pull: row i of `like` (N, d_sae) belongs to row i of x.
///
/// Errors: as suture_trainer_step(); SUTURE_ERROR_INVALID_ARGUMENT also for codes of another number of rows or
/// latents, and for a trainer without config->pull.
@c
public func suture_trainer_step_like(
    _ trainer: UnsafeMutablePointer<suture_trainer>?, _ x: UnsafePointer<suture_matrix>?,
    _ like: UnsafePointer<suture_codes>?, _ progress: UnsafePointer<suture_progress>?,
    _ out: UnsafeMutablePointer<suture_train_metrics>?
) -> suture_status {
    boundary {
        let trainer = try SutureABI.trainer(trainer)
        let x = try matrix(x, "x", cols: (trainer.dIn, "d_in"))
        let codes = try SutureABI.like(like)
        if let out { try structSize(out, "out", of: suture_train_metrics.self) }
        try write(trainer.step(x, like: codes, progress: SutureABI.progress(progress)), to: out)
    }
}

/// suture_trainer_gradients() with a pull, as suture_trainer_step_like().
@c
public func suture_trainer_gradients_like(
    _ trainer: UnsafePointer<suture_trainer>?, _ x: UnsafePointer<suture_matrix>?,
    _ like: UnsafePointer<suture_codes>?, _ progress: UnsafePointer<suture_progress>?,
    _ gradients: UnsafeMutablePointer<Float>?, _ count: Int64, _ firings: UnsafeMutablePointer<Int64>?,
    _ out: UnsafeMutablePointer<suture_train_metrics>?
) -> suture_status {
    boundary {
        let trainer = try SutureABI.trainer(trainer)
        let x = try matrix(x, "x", cols: (trainer.dIn, "d_in"))
        let codes = try SutureABI.like(like)
        let gradients = try required(gradients, "gradients")
        try checkGradients(UnsafePointer(gradients), count, of: trainer)
        if let out { try structSize(out, "out", of: suture_train_metrics.self) }
        try write(
            trainer.gradients(
                x, like: codes, into: gradients, firings: firings, progress: SutureABI.progress(progress)), to: out)
    }
}

/// suture_trainers_run() with a pull: `like` is the SAE of the other model, and the rows of all
/// like_shard_count matrices of like_shards (each (N, d_in of like)) are its activations, as many in all as
/// there are rows in shards: row i of the ones goes with row i of the others. They are read where they are, and encoded
/// batch by batch. flops and flops_executed count that too, as 2 d_in d_sae a token.
///
/// Errors: as suture_trainers_run(); SUTURE_ERROR_INVALID_ARGUMENT also for another number of rows or latents,
/// and for trainers without config->pull.
@c
public func suture_trainers_run_like(
    _ trainers: UnsafePointer<UnsafeMutablePointer<suture_trainer>?>?, _ trainer_count: Int64,
    _ shards: UnsafePointer<suture_matrix>?, _ shard_count: Int64, _ like: UnsafePointer<suture_sae>?,
    _ like_shards: UnsafePointer<suture_matrix>?, _ like_shard_count: Int64, _ tokens: UInt64,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<suture_train_metrics>?
) -> suture_status {
    boundary {
        let other = try sae(like, "like").sae
        let views = try matrices(like_shards, like_shard_count, "like_shards", cols: (other.dIn, "d_in of like"))
        try run(
            trainers, trainer_count, shards, shard_count, like: OtherModel(other, views), tokens, progress, out)
    }
}
