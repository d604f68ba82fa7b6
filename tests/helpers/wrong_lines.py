"""Wrong command lines: options that are added to a run that works, and complete lines."""

from __future__ import annotations

WRONG_OPTIONS = """\
--trainer.strategy dpp
--trainer.strategy fsdp
--trainer.accelerator cpuu
--trainer.accelerator gpu
--trainer.accelerator tpu
--trainer.devices 0
--trainer.devices 4096
--trainer.devices -3
--trainer.devices x
--trainer.devices 1.5
--trainer.num_nodes 0
--trainer.precision 17
--trainer.precision bf17-mixed
--trainer.val_check_interval 0
--trainer.val_check_interval -1
--trainer.val_check_interval 1.5
--trainer.val_check_interval x
--trainer.check_val_every_n_epoch 0
--trainer.check_val_every_n_epoch -1
--trainer.accumulate_grad_batches 0
--trainer.accumulate_grad_batches -2
--trainer.accumulate_grad_batches 1.5
--trainer.gradient_clip_val -1
--trainer.gradient_clip_val x
--trainer.gradient_clip_val .nan
--trainer.gradient_clip_algorithm nrm
--trainer.max_epochs 0
--trainer.max_epochs -2
--trainer.max_epochs x
--trainer.max_epochs 1.5
--trainer.max_steps 0
--trainer.max_steps -3
--trainer.min_epochs -2
--trainer.max_time x
--trainer.max_time 1:2
--trainer.limit_train_batches -1
--trainer.limit_train_batches 1.5
--trainer.limit_train_batches x
--trainer.limit_val_batches -1
--trainer.limit_test_batches -1
--trainer.limit_predict_batches -1
--trainer.overfit_batches -1
--trainer.num_sanity_val_steps -2
--trainer.log_every_n_steps -1
--trainer.fast_dev_run -1
--trainer.default_root_dir /proc/x
--trainer.default_root_dir tiny.yaml
--trainer.logger x
--trainer.logger [x]
--trainer.callbacks x
--trainer.callbacks EarlyStoping
--trainer.callbacks EarlyStopping
--trainer.callbacks [1]
--trainer.callbacks torch.nn.Linear
--trainer.plugins x
--trainer.profiler x
--trainer.enable_checkpointing maybe
--trainer.deterministic maybe
--trainer.benchmark 3
--trainer.inference_mode 7
--trainer.detect_anomaly 2
--trainer.barebones x
--trainer.sync_batchnorm 3
--trainer.reload_dataloaders_every_n_epochs -1
--trainer.max_epoch 3
--trainer 3
--trainer x
--seed_everything -1
--seed_everything x
--seed_everything 1.5
--seed_everything 4294967296
--sed_everything 1
--output x.txt
--model x
--model 3
--model null
--model LanguageModelling
--model torch.nn.Linear
--model os.system
--model.lr -1
--model.lr 0
--model.lr null
--model.lr x
--model.lr .nan
--model.lr .inf
--model.lr [1]
--model.learning_rate 1
--model.betas [2,3]
--model.betas [0.9]
--model.betas 0.9
--model.betas [0.9,1]
--model.betas [-0.1,0.9]
--model.betas null
--model.weight_decay -1
--model.weight_decay x
--model.weight_decay .nan
--model.warmup_steps -5
--model.warmup_steps 1.5
--model.warmup_steps null
--model.min_lr_ratio 5
--model.min_lr_ratio -1
--model.schedule cosin
--model.schedule null
--model.schedule 3
--model.optimizer sgd
--model.optimizer adamww
--model.layer_decay 2
--model.layer_decay -1
--model.frozen_blocks -1
--model.frozen_blocks 99
--model.frozen_blocks x
--model.label_smoothing 2
--model.label_smoothing -0.5
--model.metrics [accuracyy]
--model.metrics accuracyy
--model.level nod
--model.num_classes 0
--model.num_classes 1
--model.num_classes x
--model.pretrained no/such/run
--model.pretrained tiny.yaml
--model.lora 3
--model.adjacency x
--model.adjacency 3
--model.adjacency Windw
--model.adjacency Window
--model.adjacency null
--model.adjacency.radius 3
--model.network x
--model.network null
--model.network vitt
--model.network torch.nn.Linear
--model.network graphformer.models
--model.network graphformer.models.vit2
--model.network.dim 0
--model.network.dim -8
--model.network.dim x
--model.network.dim null
--model.network.dim 13
--model.network.dim 1.5
--model.network.depth -1
--model.network.depth x
--model.network.depth null
--model.network.num_heads 0
--model.network.num_heads -2
--model.network.num_heads 5
--model.network.num_heads null
--model.network.dropout 2
--model.network.dropout -0.1
--model.network.dropout x
--model.network.dropout .nan
--model.network.dropout null
--model.network.dropuot 0.1
--model.network.patch_size 0
--model.network.channels 0
--model.network.registers -1
--model.network.activation reluu
--model.network.pool maxx
--data x
--data 3
--data null
--data Digit
--data torch.nn.Linear
--data os.path
--data.patch_size 0
--data.patch_size -1
--data.patch_size 3
--data.patch_size x
--data.patch_size null
--data.batch_size 0
--data.batch_size -1
--data.batch_size x
--data.batch_size 1.5
--data.batch_size null
--data.num_workers -1
--data.num_workers x
--data.val_size -1
--data.val_size 99999
--data.test_size 0
--data.seed -1
--data.seed x
--data.label_fraction 2
--data.label_fraction -1
--data.label_fraction 0
--data.augment [flipp]
--data.augment 3
--data.augmnt []
--adjacency x
--adjacency Window
--adjacency.radius 3
--adjacency Window --adjacency.radius -1
--adjacency Window --adjacency.radius x
--ckpt last
--ckpt tiny.yaml
--ckpt .
-c
-c no.yaml
-c tini.yaml
-c .
-c broken.yaml
-c tag.yaml
-c bomb.yaml
-c deep.yaml
-c list.yaml
-c binary.yaml
--config
extra words
--folds x
--folds 0
--seeds 0
--seeds x
--jobs 0 --seeds 2
--trust""".splitlines()
"""Options after `fit -c tiny.yaml`."""

WRONG_LINES = """\
fitt
fit
fit --model Classification
fit -c tiny.yaml --data Digits --data.patch_size
validate
validate -c tiny.yaml --ckpt no
test --ckpt tiny.yaml
test --ckpt tensor.ckpt
test --ckpt list.ckpt
test --ckpt empty.ckpt
test --ckpt tag.ckpt
test --ckpt foreign.ckpt
test --ckpt bomb.ckpt
predict --ckpt no
generate
generate --ckpt tag.ckpt --prompt a
generate --ckpt tensor.ckpt --prompt a
generate --ckpt no --prompt a
generate --ckpt no --prompt a --temperature -1
evaluate --ckpt no
probe --ckpt tensor.ckpt
draw --ckpt tensor.ckpt --out x.png
sparsify --model tensor.ckpt --patterns Complete
tokenize
tokenize --kind bpee --out v.json tiny.yaml
tokenize --kind bpe --vocab-size 3 --out v.json tiny.yaml
tokenize --kind bpe --out v.json no.txt
list x
demo --seed x
--trust""".splitlines()
"""Complete lines, in a folder with the files that they name."""
